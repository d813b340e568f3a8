"""Training losses: the registry, losses of pixels and of regions, and losses as numbers."""

from clapp.training.losses import pixels as pixels
from clapp.training.losses import regions as regions
from clapp.training.losses.numbers import ZERO as ZERO
from clapp.training.losses.numbers import decibels as decibels
from clapp.training.losses.numbers import loss_text as loss_text
from clapp.training.losses.numbers import positive as positive
from clapp.training.losses.numbers import short as short
from clapp.training.losses.registry import LOSSES as LOSSES
from clapp.training.losses.registry import Loss as Loss
from clapp.training.losses.registry import LossSpec as LossSpec
from clapp.training.losses.registry import canonical_loss as canonical_loss
from clapp.training.losses.registry import checked_loss as checked_loss
from clapp.training.losses.registry import known_losses as known_losses
from clapp.training.losses.registry import loss as loss
from clapp.training.losses.registry import loss_words as loss_words
from clapp.training.losses.registry import not_residual as not_residual
from clapp.training.losses.registry import register_loss as register_loss
from clapp.training.losses.registry import smallest_crop as smallest_crop
from clapp.training.losses.spread import Spread as Spread
from clapp.training.losses.spread import spread as spread
