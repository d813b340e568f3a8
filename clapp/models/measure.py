"""What a network takes on this machine: latency and memory, measured on one picture of 224x224."""

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
from clapp.models.build import build_model
from clapp.models.costs import SIDE

_WARM_UP, _RUNS = 3, 15


class Measured(NamedTuple):
    """Median latency in milliseconds on one CPU thread, and peak bytes of live tensors."""

    latency_ms: float
    memory_bytes: int


def measure(config: ModelConfig | Mapping[str, Any]) -> Measured:
    """Latency and memory of one picture through a freshly initialised network on the CPU.

    The latest answer is kept: whoever asks for the latency asks for the memory next.

    Raises:
        ConfigError: a key or value the model does not have.
    """
    return _measure(config if isinstance(config, ModelConfig) else model_config(config))


@lru_cache(maxsize=1)
def _measure(config: ModelConfig) -> Measured:
    net = build_model(config).eval()
    picture = torch.rand(1, config.input_channels, SIDE, SIDE)
    with torch.inference_mode(), _one_thread():
        latency = _median_seconds(lambda: net(picture)) * 1000
    with torch.no_grad(), _LiveBytes([picture, *net.parameters()]) as live:
        net(picture)
    return Measured(latency, live.peak)


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
