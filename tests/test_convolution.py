"""The convolution of training against torch's in double precision, and when it is used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import clapp
from clapp.models.fast_conv.kinds import PADDING, SIZES
from clapp.models.fast_conv.layer import fast_convolutions

CHANNELS = [(1, 1, 1), (3, 4, 1), (2, 7, 1), (8, 8, 1), (5, 5, 5), (4, 8, 2)]  # in, out, groups


def fast(layer: nn.Module, x: Tensor) -> Tensor:
    with fast_convolutions(layer):
        return layer(x)


def is_compiled(y: Tensor) -> bool:
    return "_Convolution" in str(y.grad_fn)


def results(layer: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """The result, and the gradients of a fixed weighting of it."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = fast(layer, x) if x.dtype == torch.float32 else layer(x)
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


def pair(*args: int, **options: object) -> tuple[nn.Conv2d, nn.Conv2d]:
    ours = nn.Conv2d(*args, **options)
    plain = nn.Conv2d(*args, **options)
    plain.load_state_dict(ours.state_dict())
    return ours, plain.double()


def assert_close(ours: list[Tensor], exact: list[Tensor]) -> None:
    for a, b in zip(ours, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize("mode", [None, *PADDING])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_result_and_gradients(channels: tuple[int, int, int], size: int, mode: str | None) -> None:
    torch.manual_seed(0)
    inputs, outputs, groups = channels
    padding = {} if mode is None else {"padding": size // 2, "padding_mode": mode}
    for bias, shape in ((True, (2, 37, 50)), (False, (3, 7, 8))):
        ours, plain = pair(inputs, outputs, size, groups=groups, bias=bias, **padding)
        x = torch.randn(shape[0], inputs, *shape[1:])
        assert_close(results(ours, x), results(plain, x.double()))


def test_any_memory_order_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 16, 16)
    once = results(layer, x)
    layer.zero_grad()
    again = results(layer, x.to(memory_format=torch.channels_last))
    assert all(a.equal(b) for a, b in zip(once, again, strict=True))
    assert again[0].is_contiguous()


def test_no_gradient_of_the_input_unless_wanted() -> None:
    layer = nn.Conv2d(3, 2, 3)
    x = torch.rand(1, 3, 9, 9)
    fast(layer, x).sum().backward()
    assert x.grad is None
    windows = x.unfold(2, 3, 1).unfold(3, 3, 1).sum((0, 2, 3))  # (3, 3, 3)
    torch.testing.assert_close(layer.weight.grad, windows.expand(2, 3, 3, 3))


def test_what_is_not_finite_stays_so() -> None:
    layer = nn.Conv2d(1, 1, 3)
    x = torch.zeros(1, 1, 40, 40)
    x[0, 0, 20, 20] = torch.nan
    assert fast(layer, x).isnan().sum() == 9


@pytest.mark.parametrize(
    "options", [{"stride": 2}, {"dilation": 2}, {"padding": 2}, {"padding_mode": "circular"}]
)
def test_what_it_cannot_do_is_left_to_torch(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    ours, plain = pair(2, 2, 3, **options)
    x = torch.randn(1, 2, 12, 12)
    assert_close(results(ours, x), results(plain, x.double()))
    assert not is_compiled(fast(ours, x))


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 2, 2, 8), (2, 8)])
def test_torch_refuses_what_does_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        fast(nn.Conv2d(2, 2, 7, padding=3, padding_mode="reflect"), torch.rand(shape))


def test_only_in_the_block_and_in_single_precision() -> None:
    layer, x = nn.Conv2d(1, 1, 3), torch.rand(1, 1, 8, 8)
    for mode in (True, False):
        assert is_compiled(fast(layer.train(mode), x))
        assert not is_compiled(layer(x))
    with torch.no_grad():  # as in the validations of a training
        torch.testing.assert_close(fast(layer, x), layer(x), atol=1e-6, rtol=1e-5)
    assert not is_compiled(fast(layer.double(), x.double()))


def test_after_the_block_layers_are_as_before_whatever_happened() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    with pytest.raises(RuntimeError), fast_convolutions(net):
        net(torch.rand(1, 2, 8, 8))
    with fast_convolutions(net):
        with fast_convolutions(net):
            pass
        assert is_compiled(net[0](torch.rand(1, 1, 8, 8)))
    assert type(net[0]) is nn.Conv2d


def run(code: str, **environment: str) -> subprocess.Popen[str]:
    root = str(Path(clapp.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root, **environment}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=-1, text=True)


CONVOLVE = """
import torch
from clapp.models.fast_conv.layer import fast_convolutions
for size in {sizes}:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 3, size)
    with fast_convolutions(layer):
        y = layer(torch.rand(1, 2, 9, 9))
    print(round(y.sum().item(), 3), end=" ")
from clapp.models.fast_conv.compiled import forward
print(*(len(f.stats.cache_hits) for f in forward.values()))
"""


def test_processes_that_compile_at_once_leave_a_sound_cache(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    started = [run(CONVOLVE.format(sizes=s), **cache) for s in ((1, 3), (3, 1))]
    outputs = [process.communicate()[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert len(list(tmp_path.rglob("*.nbi"))) == 2  # an index for each size
    process = run(CONVOLVE.format(sizes=(1, 3)), **cache)
    one, three, *hits = process.communicate()[0].split()
    assert hits == ["1", "1", "0", "0"]  # both were found in the cache
    assert outputs[0][:2] == [one, three]
    assert outputs[1][:2] == [three, one]


def test_without_a_folder_for_the_cache_it_works_too() -> None:
    nowhere = {
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
        "NUMBA_CACHE_DIR": "/dev/null/none",
    }
    process = run(CONVOLVE.format(sizes=(3,)), **nowhere)
    assert process.communicate()[0].split()[1:] == ["0", "0", "0", "0"]
    assert process.returncode == 0


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None  # importing it raises ImportError
import torch
from clapp.models.fast_conv.layer import fast_convolutions
from clapp.training.losses import loss
from clapp.training.optimisers.adam import FirstOrder
torch.manual_seed(0)
layer, (x, y) = torch.nn.Conv2d(1, 1, 3, padding=1), torch.rand(2, 1, 1, 9, 9)
optimiser = FirstOrder(layer, loss("l2"), 1, False)
values = [optimiser.step(x, y, 0.01).item() for _ in range(3)]
assert values == sorted(values, reverse=True), values
"""


def test_without_numba_torch_trains_and_the_log_says_so_once() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(clapp.__file__).parents[1])}
    command = [sys.executable, "-c", WITHOUT_NUMBA]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Numba cannot be imported") == 1
