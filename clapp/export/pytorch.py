"""Formats for PyTorch without CLAPP: a readable `model.py`, and a torch.export program."""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from clapp.export.formats import Bundle, Written
from clapp.filters.learned.settings import Setting
from clapp.inference.adjusted import feed
from clapp.inference.runner import Batch
from clapp.models.families import family_of
from clapp.models.graph.nodes import (
    LEAK,
    MAX_EPS,
    MOMENT_EPS,
    NORM_EPS,
    ROOT_EPS,
    Graph,
    Node,
)
from clapp.models.networks.adjustable import Joined
from clapp.system.files import write_text

SOURCE, WEIGHTS, PROGRAM = "model.py", "model.pt", "model.pt2"
_FUNCTIONS = {
    "relu": "F.relu({})",
    "leaky_relu": f"F.leaky_relu({{}}, {LEAK})",
    "squared_relu": "F.relu({}).square()",
    "gelu": "F.gelu({})",
    "tanh": "torch.tanh({})",
    "sigmoid": "torch.sigmoid({})",
    "swish": "F.silu({})",
    "clip": "F.hardtanh({}, 0.0, 1.0)",
    "abs": "torch.abs({})",
    "square": "torch.square({})",
    "root": f"torch.sqrt(F.relu({{}}) + {ROOT_EPS}) - {ROOT_EPS} ** 0.5",
    "max3": "F.max_pool2d({}, 3, 1, 1)",
    "min3": "-F.max_pool2d(-{}, 3, 1, 1)",
}


_MOMENTS = f"""

def moments(x):
    mean = x.mean((2, 3), keepdim=True)
    deviation = ((x - mean).square().mean((2, 3), keepdim=True) + {MOMENT_EPS}).sqrt()
    third = (((x - mean) / deviation) ** 3).mean((2, 3), keepdim=True)
    return torch.cat([mean, x.amax((2, 3), keepdim=True), deviation, torch.tanh(third)], 1)
"""


def write_python(bundle: Bundle) -> Written:
    """`model.py` and `model.pt`: the network step by step, which needs torch alone."""
    state = family_of(bundle.model.config).exported(bundle.model).state_dict()
    torch.save({attribute(k): v.clone() for k, v in state.items()}, bundle.folder / WEIGHTS)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    write_text(bundle.folder / SOURCE, source(bundle.graph, shapes, bundle.config.settings))
    files = {
        SOURCE: "the network as a readable PyTorch module; needs torch alone, and `model.pt`",
        WEIGHTS: "its weights",
    }
    return Written(files, {}, {"model.py": _loaded(bundle)})


def attribute(name: str) -> str:
    """The name that a weight has in `model.py`."""
    return name.replace(".", "_")


def source(
    graph: Graph, shapes: dict[str, tuple[int, ...]], settings: Sequence[Setting] = ()
) -> str:
    """The text of `model.py`."""
    parameters = "\n".join(
        f"        self.{attribute(name)} = nn.Parameter(torch.zeros({', '.join(map(str, shape))}))"
        for name, shape in shapes.items()
    )
    steps = "\n".join(f"        {node.output} = {_step(graph, node)}" for node in graph.nodes)
    names = "".join(f", {s.name}" for s in settings)
    joined = "".join(
        f"        {s.name} = torch.as_tensor({s.name}, dtype=image.dtype, device=image.device)\n"
        f"        {s.name} = ({s.name}.reshape(-1, 1, 1, 1) - {s.low!r}) / {s.high - s.low!r}\n"
        f"        {s.name} = {s.name}.expand(len(image), 1, height, width)\n"
        for s in settings
    )
    if settings:
        joined += f"        image = torch.cat([image{names}], 1)\n"
    functions = _MOMENTS if any(node.kind == "moments" for node in graph.nodes) else ""
    said = "".join(f"; {s.name}: {s.allowed}" for s in settings)
    inputs = graph.input_channels - len(settings)
    return f'''"""A network made by CLAPP. It needs torch alone: `model = load()`."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
{functions}

class Model(nn.Module):
    """(N, {inputs}, H, W) in [0, 1]{said} to (N, {graph.output_channels}, H, W)."""

    def __init__(self):
        super().__init__()
{parameters}

    def forward(self, image{names}):
        height, width = image.shape[2:]
{joined}{steps}
        return output


def load(path=Path(__file__).with_name("{WEIGHTS}")):
    """The network with its trained weights."""
    model = Model()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()
'''


def _step(graph: Graph, node: Node) -> str:
    x = node.inputs[0]
    named = [None if name is None else f"self.{attribute(name)}" for name in node.weights]
    if node.kind in ("function", "window"):
        return _FUNCTIONS[node.function].format(x)
    if node.kind == "conv":
        high, wide = node.reach
        if node.border != "none" and (high or wide):
            mode = "constant" if node.border == "zero" else node.border
            x = f'F.pad({x}, ({wide}, {wide}, {high}, {high}), mode="{mode}")'
        how = f", dilation={node.dilation}" if node.dilation > 1 else ""
        how += f", groups={node.groups}" if node.groups > 1 else ""
        return f"F.conv2d({x}, {named[0]}, {named[1]}{how})"
    if node.kind == "pad":
        high, wide = node.outside
        return f"F.pad({x}, ({wide}, {wide}, {high}, {high}))"
    if node.kind == "norm":
        return f"F.group_norm({x}, 1, {named[0]}, {named[1]}, {NORM_EPS})"
    if node.kind == "mix":
        both = zip(named, node.inputs, strict=True)
        return " + ".join(v if name is None else f"{name} * {v}" for name, v in both)
    if node.kind == "sum":
        size = graph.channels(node.inputs[0]) // node.channels
        return f"{x}.unflatten(1, ({node.channels}, {size})).sum(2)"
    if node.kind in ("pool", "enlarge", "extend"):
        return _resized(graph, node)
    count, others = node.channels, ", ".join(node.inputs)
    return {
        "crop": f"{x}[..., :height, :width]",
        "join": f"torch.cat([{others}], 1)",
        "blend": f"({x}[:, :-{count}].unflatten(1, (-1, {count})) * {node.inputs[-1]}.unsqueeze(2))"
        f".sum(1) + {x}[:, -{count}:]",
        "moments": f"moments({x})",
        "modulate": f"{x} * (1 + {node.inputs[-1]}[:, :{count}]) + {node.inputs[-1]}[:, {count}:]",
        "maximum": f"{x} / ({x}.abs().amax((1, 2, 3), keepdim=True) + {MAX_EPS})",
    }[node.kind]


def _resized(graph: Graph, node: Node) -> str:
    x, grid = node.inputs[0], node.size.grid
    if node.kind == "extend":
        return f'F.pad({x}, (0, -width % {grid}, 0, -height % {grid}), mode="replicate")'
    factor = graph.factor(node)
    if node.kind == "enlarge":
        cut = "[..., :height, :width]" if graph.completes(node) else ""
        return f'F.interpolate({x}, scale_factor={factor}.0, mode="bilinear"){cut}'
    if graph.completes(node):
        more = factor - 1
        x = f'F.pad({x}, (0, {more}, 0, {more}), mode="replicate")'
    return f"F.avg_pool2d({x}, {factor})"


def _loaded(bundle: Bundle) -> Callable[[Batch], Batch]:
    folder = bundle.folder
    spec = importlib.util.spec_from_file_location("exported_model", folder / SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # An ordinary import would write a __pycache__ into the folder of the export.
    exec(compile((folder / SOURCE).read_text(), str(folder / SOURCE), "exec"), module.__dict__)  # noqa: S102
    return _run(module.load(folder / WEIGHTS), bundle.config.settings)


def write_program(bundle: Bundle) -> Written:
    """`model.pt2`: a torch.export program, of free or fixed size."""
    settings = bundle.config.settings
    model = Joined(family_of(bundle.model.config).exported(bundle.model), settings)
    size = bundle.options.size
    sides, batch = (67, 45) if size is None else size, 2 if size is None else 1
    free = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    example = torch.zeros(batch, bundle.model.config.input_channels - len(settings), *sides)
    values = [torch.full((1,), setting.low) for setting in settings]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own internals
        shapes: Any = None
        if size is None:
            shapes = (free, tuple({} for _ in settings)) if settings else (free,)
        program = torch.export.export(model, (example, *values), dynamic_shapes=shapes)
        torch.export.save(program, bundle.folder / PROGRAM)
        loaded = torch.export.load(bundle.folder / PROGRAM).module()
    what = "the network as a program of torch.export"
    return Written({PROGRAM: what}, {}, {"torch.export": _run(loaded, settings)})


def _run(model: Callable[..., Tensor], settings: Sequence[Setting]) -> Callable[[Batch], Batch]:
    def run(batch: Batch) -> Batch:
        given = (torch.from_numpy(v) for v in feed(batch, settings, uint8=False).values())
        with torch.no_grad():
            result: Batch = model(*given).numpy()
        return result

    return run
