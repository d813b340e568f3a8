"""Weights that trials inherit, stored in records so that all machines of a study have them."""

import base64
from collections.abc import Sequence

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


def first_weights(
    config: Config, parent: int | None, trials: Sequence[FrozenTrial]
) -> State | None:
    """The initial weights of a trial: those of its parent, as far as they fit.

    They depend only on the parent's record and the trial's seed. None: the trial has no parent, or
    the parent's weights were not stored.
    """
    record = record_of(trials[parent]) if parent is not None else None
    if record is None or record.weights is None:
        return None
    older = configuration(record).model
    with torch.device("meta"):
        weights = unpacked(record.weights, build_model(older))
    with torch.random.fork_rng([]):
        torch.manual_seed(config.train.seed)
        return heir(older, weights, config.model)


def configuration(record: TrialRecord) -> Config:
    """The configuration of a trial, from its record."""
    return compose([Layer("record of a trial", nest(dict(record.config or {})))])
