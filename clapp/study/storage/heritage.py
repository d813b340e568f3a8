"""Weights that trials inherit, stored in records so that all machines of a study have them."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from optuna.trial import FrozenTrial
from torch import Tensor, nn

from clapp.config import Config, Layer, compose, nest
from clapp.front.record import TrialRecord, record_of
from clapp.models.build import build_model, heir
from clapp.models.family import State

MOST_PARAMETERS = 2000
"""The most weights of a network that are stored: 8 kB, as much as the rest of a record."""


def packed(model: nn.Module) -> str | None:
    """The state of a network as text, float32 in Base64; None: the network is too large."""
    values = torch.cat([value.flatten().float() for value in model.state_dict().values()])
    if values.numel() > MOST_PARAMETERS:
        return None
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def unpacked(text: str, model: nn.Module) -> dict[str, Tensor]:
    """The state of a network like `model`, from the text of `packed`."""
    values = torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())
    state, start = {}, 0
    for name, value in model.state_dict().items():
        count = value.numel()
        state[name] = values[start : start + count].view(value.shape)
        start += count
    return state


@dataclass(frozen=True)
class Ancestor:
    """A trained network whose weights another one starts from.

    Attributes:
        config: the dotted keys in which its configuration differs from the packaged defaults.
        weights: as `packed` wrote them.
    """

    config: Mapping[str, Any]
    weights: str

    def document(self) -> dict[str, Any]:
        """The ancestor as JSON documents hold it."""
        return {"config": dict(self.config), "weights": self.weights}


def ancestor_of(record: TrialRecord, trials: Sequence[FrozenTrial]) -> Ancestor | None:
    """Whose weights a trial starts from: those of a trial of another study, or of its parent.

    None: neither, or the weights were not stored.
    """
    if record.ancestor is not None:
        weights = record.ancestor["weights"]
        return None if weights is None else Ancestor(record.ancestor["config"], weights)
    parent = record_of(trials[record.parent]) if record.parent is not None else None
    if parent is None or parent.weights is None:
        return None
    return Ancestor(parent.config or {}, parent.weights)


def inherited_weights(config: Config, ancestor: Ancestor | None) -> State | None:
    """The weights that a training starts from: those of its ancestor, as far as they fit.

    They follow from the ancestor and the seed alone. None: it has no ancestor, or one of another
    family.
    """
    if ancestor is None:
        return None
    older = compose([Layer("record of a trial", nest(dict(ancestor.config)))], stored=True).model
    with torch.device("meta"):
        weights = unpacked(ancestor.weights, build_model(older))
    with torch.random.fork_rng([]):
        torch.manual_seed(config.train.seed)
        return heir(older, weights, config.model)


def configuration(record: TrialRecord) -> Config:
    """The configuration of a trial, from its record."""
    return compose([Layer("record of a trial", nest(dict(record.config or {})))])
