"""The loss of a network in integers, and its fine-tuning for it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clapp.config import Config
from clapp.models.build import Network
from clapp.models.families import family_of
from clapp.models.graph.footprint import steps_of
from clapp.models.graph.nodes import Graph
from clapp.models.graph.run import run_graph
from clapp.pool.validation import validation_set
from clapp.training.int8.equalise import equalised, pairs
from clapp.training.int8.scales import Bits, Scales, State, calibrate, run_int8
from clapp.training.tensors import chunks, input_tensor, target_tensor

PICTURES = 16
"""Number of training pictures on which scales are found."""
_STEPS, _BATCH, _RATE, _RENEWED = 300, 4, 2e-3, 50


def training_pictures(config: Config, number: int = PICTURES) -> tuple[Tensor, Tensor]:
    """The first training pictures, uncropped (N, 3, S, S), and their targets (N, C, S, S).

    Raises:
        UserError: the pictures cannot be read.
    """
    keys = ("name", "split", "subset", "image_key", "streaming", "token", "shuffle_buffer", "seed")
    values = {key: getattr(config.train_data, key) for key in keys}
    data = config.valid_data.model_copy(update=values | {"num_images": number})
    images, targets = validation_set(data, config.target_filter, config.parameter)
    cpu = torch.device("cpu")
    return input_tensor(images, cpu), target_tensor(targets, cpu)


def exported_state(model: Network) -> State:
    """The state of a network as it is exported."""
    return family_of(model.config).exported(model).state_dict()


@torch.no_grad()
def in_integers(
    graph: Graph, state: State, pictures: Tensor, bits: Bits = 8
) -> tuple[State, Scales]:
    """A network as it is rounded: as it is or with equal channels, whatever loses less on pictures.

    Args:
        pictures: those of `training_pictures`.
        bits: of values, 8 or 16; kernels have 8.

    Returns:
        Weights that say the same in floats, and the scales of their values.
    """
    if not pairs(graph):
        return state, calibrate(graph, state, pictures, bits)
    exact = [run_graph(graph, state, one[None], lambda _, value: value) for one in pictures]

    def lost(state: State, scales: Scales) -> float:
        rounded = (run_int8(graph, state, scales, one[None]) for one in pictures)
        return sum(float(F.mse_loss(*both)) for both in zip(rounded, exact, strict=True))

    equal = equalised(graph, state, pictures)
    ways = [(one, calibrate(graph, one, pictures, bits)) for one in (state, equal)]
    return min(ways, key=lambda way: lost(*way))


@torch.no_grad()
def loss_of(config: Config, graph: Graph, state: State, scales: Scales | None) -> float:
    """Mean squared error over the whole validation set; in integers, or where None in floats."""
    images, targets = validation_set(config.valid_data, config.target_filter, config.parameter)
    cpu, total = torch.device("cpu"), 0.0
    for part in chunks(images, config.model.widest, cpu):
        x, y = input_tensor(images[part], cpu), target_tensor(targets[part], cpu)
        if scales is None:
            found = run_graph(graph, state, x, lambda _, value: value)
        else:
            found = run_int8(graph, state, scales, x)
        total += float(F.mse_loss(found, y)) * len(x)
    return total / len(images)


def int8_loss(model: Network, config: Config, bits: Bits = 8) -> float:
    """Validation L2 of a trained network in integers, with scales from training pictures.

    Args:
        bits: of values, 8 or 16; kernels have 8.

    Raises:
        ConfigError: the family of the network has no graph.
        UserError: pictures cannot be read.
    """
    graph, (pictures, _) = steps_of(model.config), training_pictures(config)
    return loss_of(config, graph, *in_integers(graph, exported_state(model), pictures, bits))


def fine_tune(graph: Graph, state: State, config: Config, bits: Bits = 8) -> tuple[State, Scales]:
    """The weights and scales of a network trained on for integers (quantisation-aware training).

    Adam follows gradients that pass through the rounding, on training pictures; scales are found
    anew every 50 steps. The best weights, by the loss in integers on those pictures, are returned:
    the given ones where none were better.

    Raises:
        UserError: pictures cannot be read.
    """
    x, y = training_pictures(config)
    state = {k: v.detach().clone().requires_grad_() for k, v in state.items()}
    adam = torch.optim.Adam(state.values(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, _STEPS)
    draw = torch.Generator().manual_seed(config.train.seed)
    best: tuple[float, State, Scales] | None = None
    for step in range(_STEPS + 1):
        if step % _RENEWED == 0:
            scales = calibrate(graph, state, x, bits)
            with torch.no_grad():
                loss = float(F.mse_loss(run_int8(graph, state, scales, x), y))
            if best is None or loss < best[0]:
                best = loss, {k: v.detach().clone() for k, v in state.items()}, scales
        chosen = torch.randint(len(x), (_BATCH,), generator=draw)
        adam.zero_grad()
        mean = F.mse_loss(run_int8(graph, state, scales, x[chosen]), y[chosen])
        torch.autograd.backward(mean)
        adam.step()
        schedule.step()
    assert best is not None
    return best[1], best[2]
