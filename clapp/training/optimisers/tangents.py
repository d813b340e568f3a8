"""Forward-mode derivatives of a network's output by every one of its parameters.

Torch's own forward mode carries the tangents of all parameters from the first layer to the last.
Here the tangents of a parameter begin where it is used: that of a weight is its input, shifted.
With tens of parameters and few channels this makes a Jacobian cheap. `duals.py` has the values with
their tangents, `tangent_rules.py` the functions that are known. A network that uses another
function is left to torch's forward mode, which knows all.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clapp.training.optimisers import tangent_rules  # noqa: F401 - importing it registers the rules
from clapp.training.optimisers.duals import Leaf, as_dual


def jacobian(net: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The output of a network for pictures (B, C, H, W), and its derivatives by every parameter.

    Returns:
        The output (B, Cout, H, W), and its derivatives (P, B, Cout, H, W), in the order of
        `net.parameters()`.
    """
    try:
        with torch.no_grad(), _leaves(net) as count:
            result = as_dual(net(pictures))
    # Python raises TypeError for operators that duals and leaves lack, such as `**`.
    except (NotImplementedError, TypeError):
        return _by_torch(net, pictures)
    return result.value, result.tangents(range(count))


def _by_torch(net: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The same by torch's own forward mode."""
    values = {name: p.detach() for name, p in net.named_parameters()}

    def output(values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        y: Tensor = torch.func.functional_call(net, values, (pictures,))
        return y, y

    training = net.training
    net.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.func imports torch.jit
            found, y = torch.func.jacfwd(output, has_aux=True)(values)
    finally:
        net.train(training)
    return y, torch.cat([found[name].flatten(y.dim()).movedim(-1, 0) for name in values])


@contextmanager
def _leaves(net: nn.Module) -> Iterator[int]:
    """Replace every parameter by a leaf while the block runs; yields how many numbers they hold."""
    places = [
        (module, name, parameter)
        for module in net.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    start, starts = 0, {}
    for parameter in net.parameters():
        starts[id(parameter)] = start
        start += parameter.numel()
    training = net.training
    net.eval()
    try:
        for module, name, parameter in places:
            module._parameters[name] = Leaf(parameter.detach(), starts[id(parameter)])  # type: ignore[assignment]
        yield start
    finally:
        for module, name, parameter in places:
            module._parameters[name] = parameter
        net.train(training)
