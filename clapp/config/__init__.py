"""The configuration of one training: its sections, its layers, and what two of them share."""

from clapp.config.choices import one_of as one_of
from clapp.config.differences import differences as differences
from clapp.config.differences import without_secrets as without_secrets
from clapp.config.explain import explain as explain
from clapp.config.identity import identity as identity
from clapp.config.layers import Layer as Layer
from clapp.config.layers import compose as compose
from clapp.config.layers import defaults as defaults
from clapp.config.layers import flatten as flatten
from clapp.config.layers import load_config as load_config
from clapp.config.layers import load_stored as load_stored
from clapp.config.layers import merge as merge
from clapp.config.layers import model_config as model_config
from clapp.config.layers import nest as nest
from clapp.config.layers import override_layer as override_layer
from clapp.config.layers import validate as validate
from clapp.config.schema import Activation as Activation
from clapp.config.schema import Config as Config
from clapp.config.schema import Count as Count
from clapp.config.schema import DataConfig as DataConfig
from clapp.config.schema import FilterSpec as FilterSpec
from clapp.config.schema import ModelConfig as ModelConfig
from clapp.config.schema import Section as Section
from clapp.config.schema import Seed as Seed
from clapp.config.schema import TrainConfig as TrainConfig
from clapp.config.schema import ValidConfig as ValidConfig
