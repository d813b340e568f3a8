"""What a FilterNet costs: parameters and FLOPs exactly, latency and memory measured.

All of it for one picture of 224x224, the size the reference publishes its figures for.
"""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clapp.config import ModelConfig, model_config
from clapp.model import build_model

SIDE = 224
_WARM_UP, _RUNS = 3, 15


class Cost(NamedTuple):
    """Trainable parameters, and FLOPs of the convolutions (2 per multiply-add)."""

    params: int
    flops: int


class Measured(NamedTuple):
    """Median latency in milliseconds on one CPU thread, and peak bytes of live tensors."""

    latency_ms: float
    memory_bytes: int


def cost(config: ModelConfig | Mapping[str, Any]) -> Cost:
    """Parameters and FLOPs of an architecture, counted without laying it out; cached.

    A sampler asks for the costs of a hundred candidates at a time, so microseconds matter; that
    these are the costs of the network that `build_model` makes is left to the tests.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    return _cost(_validated(config).canonical())


@lru_cache(maxsize=65536)
def _cost(config: ModelConfig) -> Cost:
    stem, width = config.stem_channels, config.capacity
    first, last = config.input_channels * stem, width * config.output_channels  # weights of 1x1
    entries = [stem] if config.shared_weights else [stem] + [width] * (config.num_layers - 1)
    weights = sum(_block_weights(config, channels) for channels in entries)
    others = sum(_block_others(config, channels) for channels in entries)
    params = first + stem + weights + others + last + config.output_channels

    side = SIDE // config.downsample
    # Convolved first and padded after, a picture has fewer pixels where the work is done.
    inner = side - (config.kernel_size - 1 if config.padding == "zero_after" else 0)
    repeats = config.num_layers if config.shared_weights else 1
    return Cost(params, 2 * ((first + last) * side**2 + weights * inner**2 * repeats))


def _block_weights(config: ModelConfig, channels: int) -> int:
    """Weights of the convolutions of a block, each one multiply-add an output pixel."""
    area, width = config.kernel_size**2, config.capacity
    return channels * (area + width) if config.separable else channels * width * area


def _block_others(config: ModelConfig, channels: int) -> int:
    """Biases, normalisation and the scales of ReZero and ReSkip."""
    width = config.capacity
    normed = channels if config.flip_conv_norm else width
    norm = 2 * normed if config.norm == "group" else 0
    scales = config.rezero + config.reskip if channels == width else 0
    return width + norm + width * scales


def measure(config: ModelConfig | Mapping[str, Any]) -> Measured:
    """Latency and memory of one picture through a freshly initialised network on the CPU.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    config = _validated(config)
    net = build_model(config).eval()
    picture = torch.rand(1, config.input_channels, SIDE, SIDE)
    with torch.inference_mode(), _one_thread():
        latency = _median_seconds(lambda: net(picture)) * 1000
    with torch.no_grad(), _LiveBytes([picture, *net.parameters()]) as live:
        net(picture)
    return Measured(latency, live.peak)


def _validated(config: ModelConfig | Mapping[str, Any]) -> ModelConfig:
    return config if isinstance(config, ModelConfig) else model_config(config)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _median_seconds(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_WARM_UP + _RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[_WARM_UP:])


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages of all tensors made while it is active; `peak` is their most at once."""

    def __init__(self, existing: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        for tensor in existing:
            self._follow(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._release, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _release(self, size: int) -> None:
        self.live -= size
