"""`clapp shrink`: make a trained network as small as possible at a given loss, change by change.

Each round trains the network with every change that makes it smaller, starting from its weights,
and keeps the smallest result that still meets the loss. The idea comes from LEMONADE (Elsken et al.
2019); here all changes shrink.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor

from clapp.config import Config, ModelConfig, compose, flatten, nest
from clapp.config import Layer as ConfigLayer
from clapp.errors import ConfigError, UserError
from clapp.front.objectives import loss_text, short
from clapp.models.build import heir
from clapp.models.costs import cost
from clapp.models.neighbours import smaller
from clapp.models.published import plain_name
from clapp.training.folder import load_trained, save_trained
from clapp.training.trainer import TrainResult, train

WORSE = 1.05
"""By how much the loss may exceed the model's own, by default."""
ROUND = {"min_iterations": 100, "max_iterations": 600, "patience": 2, "stop_l2_loss": None}
"""Settings for training a child, which starts from its parent's weights."""
KEPT = {"loss_type": "l2", "optimizer": "auto", "starts": 1}


@dataclass(frozen=True)
class Step:
    """One change that was kept, or the start.

    Attributes:
        change: the change in words.
        tried: number of children trained in its round.
    """

    change: str
    loss: float
    params: int
    flops: int
    tried: int


@dataclass(frozen=True)
class Shrunk:
    """The result: a configuration, its training, and the steps that led to it."""

    config: Config
    result: TrainResult
    steps: list[Step]


def shrink(
    config: Config,
    weights: Mapping[str, Tensor],
    loss_at_most: float | None = None,
    tell: Callable[[Step], None] = lambda _: None,
) -> Shrunk:
    """Make a trained network as small as it can be.

    Args:
        config: configuration of the network, with the pictures and the filter it was trained on.
        weights: its state.
        loss_at_most: the highest validation L2 of the result; None: 5 % above the network's own,
            after a short further training.
        tell: called after every step.

    Raises:
        ConfigError: the network does not meet `loss_at_most` itself.
    """
    config = _with_train(config, **ROUND, **KEPT)
    result = train(config, None, weights)
    limit = result.loss * WORSE if loss_at_most is None else loss_at_most
    if not result.loss <= limit:
        raise ConfigError(
            f"--loss-at-most {short(limit)}: the model itself has a loss of "
            f"{loss_text(result.loss)}; nothing smaller can be expected to be better"
        )
    size = cost(config.model)
    steps = [Step("as it is", result.loss, size.params, size.flops, 1)]
    tell(steps[0])
    state: Mapping[str, Tensor] = result.model.state_dict()
    while True:
        found = None
        tried = 0
        for change, child in _smaller(config):
            tried += 1
            trained = train(child, None, _start(config.model, state, child))
            if trained.loss <= limit:
                found = change, child, trained
                break  # sorted, smallest first
        if found is None:
            return Shrunk(config, result, steps)
        change, config, result = found
        state, size = result.model.state_dict(), cost(config.model)
        steps.append(Step(change, result.loss, size.params, size.flops, tried))
        tell(steps[-1])


def shrink_folder(
    folder: Path,
    loss_at_most: float | None = None,
    out: Path | None = None,
    tell: Callable[[Step], None] | None = None,
) -> dict[str, Any]:
    """Shrink the model in an export or trial folder, and write the result to another folder.

    That of a published model is written to the working directory.

    Raises:
        UserError: no model is there, or `out` exists or cannot be written.
        ConfigError: see `shrink`.
    """
    out = out or folder.with_name(f"{plain_name(folder)}-shrunk")
    if out.exists():
        raise UserError(f"{out}: is there already; choose another folder with --out")
    net, config = load_trained(folder)
    with _new_folder(out):
        found = shrink(config, net.state_dict(), loss_at_most, tell or (lambda _: None))
        save_trained(out, found.config, found.result)
    return {
        "path": str(out),
        "loss": found.result.loss,
        "params": found.steps[-1].params,
        "flops": found.steps[-1].flops,
        "steps": [asdict(step) for step in found.steps],
    }


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Create `out` before the search, so that errors show early; remove it if the search fails."""
    try:
        out.mkdir(parents=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            out.rmdir()
        raise


def _with_train(config: Config, **changes: Any) -> Config:
    values = flatten(config.model_dump()) | {f"train.{key}": v for key, v in changes.items()}
    return compose([ConfigLayer("clapp shrink", nest(values))])


def _start(parent: ModelConfig, state: Mapping[str, Tensor], child: Config) -> Mapping[str, Tensor]:
    with torch.random.fork_rng([]):
        torch.manual_seed(child.train.seed)
        weights = heir(parent, state, child.model)
    assert weights is not None  # changes keep the family
    return weights


def _smaller(config: Config) -> list[tuple[str, Config]]:
    """Configurations with one change and fewer parameters, smallest first."""
    return [(words, _with_model(config, values)) for words, values in smaller(config.model)]


def _with_model(config: Config, values: Mapping[str, Any]) -> Config:
    sections = config.model_dump()
    sections["model"] |= values
    return compose([ConfigLayer("clapp shrink", sections)])
