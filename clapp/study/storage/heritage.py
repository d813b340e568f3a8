"""Weights that a trial hands down: in its record, so that every machine of a study has them."""

import base64
from collections.abc import Sequence

import numpy as np
import torch
from optuna.trial import FrozenTrial
from torch import Tensor, nn

from clapp.config import Config, Layer, compose, nest
from clapp.front.record import TrialRecord, record_of
from clapp.models.filternet import FilterNet
from clapp.models.inherit import State, inherited

MOST_PARAMETERS = 2000
"""Of a network whose weights are handed down: 8 kB, as much as the rest of a record."""


def packed(model: nn.Module) -> str | None:
    """The parameters of a network as text, float32 in Base64; None: they are too many."""
    values = nn.utils.parameters_to_vector(model.parameters()).detach()
    if values.numel() > MOST_PARAMETERS:
        return None
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def unpacked(text: str, model: FilterNet) -> dict[str, Tensor]:
    """The state of a network like `model` from what `packed` wrote."""
    values = torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())
    state, start = {}, 0
    for name, parameter in model.named_parameters():
        count = parameter.numel()
        state[name] = values[start : start + count].view(parameter.shape)
        start += count
    return state


def first_weights(
    config: Config, parent: int | None, trials: Sequence[FrozenTrial]
) -> State | None:
    """The weights that a trial starts from: those of its parent, as far as they fit.

    They follow from the parent's record and the trial's seed alone. None: it has no parent, or the
    parent's weights were not stored.
    """
    record = record_of(trials[parent]) if parent is not None else None
    if record is None or record.weights is None:
        return None
    older = configuration(record).model
    with torch.device("meta"):
        weights = unpacked(record.weights, FilterNet(older))
    with torch.random.fork_rng([]):
        torch.manual_seed(config.train.seed)
        fresh = FilterNet(config.model).state_dict()
    return inherited(older, weights, config.model, fresh)


def configuration(record: TrialRecord) -> Config:
    """The configuration of a trial, from what its record says of it."""
    return compose([Layer("record of a trial", nest(dict(record.config or {})))])
