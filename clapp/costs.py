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

from clapp.config import BlockShape, ModelConfig, model_config
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
    stem, last = config.stem_channels, config.blocks[-1].width
    outputs, bias = config.output_channels, config.bias
    blocks = config.blocks[:1] if config.shared_weights else config.blocks
    repeats = config.num_layers if config.shared_weights else 1
    side = SIDE // config.downsample

    first = config.input_channels * stem if config.stem != 0 else 0  # weights of the 1x1
    end = last * outputs if config.head == "conv" else 0
    params = first + end
    if bias:
        params += stem * (config.stem != 0) + outputs * (config.head == "conv")
    work = (first + end) * side**2
    for block in blocks:
        weights = _block_weights(block)
        params += weights + _block_others(block, bias)
        # Convolved first and padded after, a picture has fewer pixels where the work is done.
        less = [2 * pixels if config.padding == "zero_after" else 0 for pixels in block.border]
        work += weights * (side - less[0]) * (side - less[1]) * repeats
    return Cost(params, 2 * work)


def _block_weights(block: BlockShape) -> int:
    """Weights of the convolutions of a block, each one multiply-add an output pixel."""
    area, channels, width = block.kernel[0] * block.kernel[1], block.channels, block.width
    if block.separable:
        return channels * (area + width)
    return width * area if block.depthwise else channels * width * area


def _block_others(block: BlockShape, bias: bool) -> int:
    """Biases, normalisation and the scales of ReZero and ReSkip."""
    normed = block.channels if block.norm_first else block.width
    norm = 2 * normed if block.norm == "group" else 0
    scales = block.rezero + block.reskip if block.channels == block.width else 0
    return block.width * bias + norm + block.width * scales


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
