"""Single changes of a FilterNet, as keys of its configuration."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from clapp.config.filternet import SIDES, FilterNetConfig
from clapp.models.activations import activation, known_activations


def changes(model: FilterNetConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield single changes that may make a network smaller or larger, in words and as keys."""
    lists = {key: _listed(model, key) for key in model.PER_BLOCK}
    if model.bias:
        yield "no biases", {"bias": False}
    yield from _ends(model)
    if model.downsample == 2:
        yield "full resolution", {"downsample": 1}
        if not model.shared_weights:
            wider = {"downsample": 1} | _with_twice_the_reach(model, lists)
            yield "full resolution, and twice the reach", wider
    now = model.stem_channels
    for stem in range(1, now + 1) if model.stem == 0 else (*range(now), now + 1):
        yield (f"a stem of {stem}" if stem else "no stem"), {"stem": stem}
    for block in range(model.num_layers):
        yield from _changes_of_block(model, lists, block)
        yield from _larger_block(model, lists, block)
        yield from _windows(model, lists, block)
    yield from _other_power(model, lists)
    for block, fused in fusions(model).items():
        yield f"blocks {block} and {block + 1} as one", fused
    yield from _every_block(model, lists)


def _ends(model: FilterNetConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Another head, and another function of the result."""
    free = model.output_norm == "none"
    if model.head == "conv":
        yield "the sum of the channels as head", {"head": "sum"}
        if free and model.output_activation == "none":
            yield "a sigmoid at the end", {"output_activation": "sigmoid"}
    if free and model.output_activation in ("none", "relu"):
        yield "a clip at the end", {"output_activation": "clip"}


def _every_block(
    model: FilterNetConfig, lists: Mapping[str, list[Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One channel less or more everywhere: depthwise blocks have to agree on their channels, the
    first one with a stem of several. Larger kernels everywhere, as a column and a row only reach
    farther in both directions together."""
    first = model.blocks[0]
    with_stem = first.depthwise and model.stem == first.width > 1
    if model.num_layers == 1 and not with_stem:
        return
    for word, step in (("less", -1), ("more", 1)):
        stem = {"stem": first.width + step} if with_stem else {}
        widths = [width + step for width in lists["capacity"]]
        yield f"one channel {word} in every block", {"capacity": widths} | stem
    kernels = [_written(*map(_longer, shape.kernel)) for shape in model.blocks]
    yield "larger kernels in every block", {"kernel_size": kernels}


def _changes_of_block(
    model: FilterNetConfig, lists: Mapping[str, list[Any]], block: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    other = partial(_with, lists, block)
    shape = model.blocks[block]
    if model.num_layers > 1 and not model.shared_weights:
        yield f"without block {block}", _without(lists, block)
    if shape.width > 1:
        fewer = shape.width - 1
        yield f"block {block}: {fewer} of {shape.width} channels", other(capacity=fewer)
    if not shape.depthwise:
        yield f"block {block}: depthwise", other(depthwise=True, separable=False)
    for key, value in (("rezero", False), ("reskip", False), ("norm", "none")):
        if lists[key][block] != value:
            yield f"block {block}: {key} {value}", other(**{key: value})
    high, wide = shape.kernel
    for kernel in {
        (max(high - 2, 1), wide),
        (high, max(wide - 2, 1)),
        (max(high - 2, 1), max(wide - 2, 1)),
    }:
        if kernel != shape.kernel:
            yield f"block {block}: {kernel[0]}x{kernel[1]}", other(kernel_size=_written(*kernel))
    if min(high, wide) > 1 and not model.shared_weights and not shape.separable:
        yield from _factored(lists, model, block)


def _other_power(
    model: FilterNetConfig, lists: Mapping[str, list[Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Squares and a root in place of absolute values, or the reverse: two keys that go together.

    The output then still scales with the picture, so the weights stay good ones: the network adds
    up its last channels by another norm.
    """
    last, rooted = model.num_layers - 1, model.output_activation == "sqrt"
    before = activation(model.blocks[last].activation).degree
    if before != (2 if rooted else 1):
        return
    for name in known_activations():
        other = activation(name)
        if other.degree == 3 - before:
            end = {"output_activation": "none" if rooted else "sqrt"}
            root = "no root" if rooted else "a root"
            words = f"block {last}: {other.words} and {root} at the end"
            yield words, _with(lists, last, activation=name) | end


def fusions(model: FilterNetConfig) -> dict[int, dict[str, Any]]:
    """How two linear convolutions in a row may be written as one, by the number of the first."""
    lists = {key: _listed(model, key) for key in model.PER_BLOCK}
    found: dict[int, dict[str, Any]] = {}
    for block, (first, second) in enumerate(pairwise(model.blocks)):
        linear = first.activation == "none" and first.norm == "none"
        bare = linear and not (second.norm != "none" and second.norm_first)
        plain = all(
            not (one.separable or one.has_skip) and one.dilation == 1 for one in (first, second)
        )
        if model.shared_weights or not (bare and plain):
            continue
        (high, wide), (higher, wider) = first.kernel, second.kernel
        found[block] = _without(lists, block)
        found[block]["kernel_size"][block] = _written(high + higher - 1, wide + wider - 1)
        found[block]["depthwise"][block] = first.depthwise and second.depthwise
    return found


def _larger_block(
    model: FilterNetConfig, lists: Mapping[str, list[Any]], block: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One more channel, and a kernel larger in one direction or both."""
    shape = model.blocks[block]
    more = shape.width + 1
    yield f"block {block}: {more} channels", _with(lists, block, capacity=more)
    high, wide = shape.kernel
    for kernel in ((high + 2, wide), (high, wide + 2), (high + 2, wide + 2)):
        yield (
            f"block {block}: {kernel[0]}x{kernel[1]}",
            _with(lists, block, kernel_size=_written(*kernel)),
        )


def _with_twice_the_reach(model: FilterNetConfig, lists: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Larger kernels, and each window twice: at full resolution the same reach as at half."""
    blocks: list[dict[str, Any]] = []
    for number, shape in enumerate(model.blocks):
        high, wide = (min(2 * side - 1, SIDES[-1]) for side in shape.kernel)
        block = {key: values[number] for key, values in lists.items()}
        blocks.append(block | {"kernel_size": _written(high, wide)})
        if activation(shape.activation).window:
            blocks.append(block | _plain(shape.width))
    longer = {key: [block[key] for block in blocks] for key in lists}
    return longer | {"num_layers": len(blocks)}


def _plain(width: int) -> dict[str, Any]:
    """The keys of a block of `width` channels that does nothing but its activation."""
    plain = {"kernel_size": 1, "depthwise": width > 1, "separable": False, "dilation": 1}
    return plain | {"norm": "none", "rezero": False, "reskip": False}


def _windows(
    model: FilterNetConfig, lists: Mapping[str, list[Any]], block: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The largest or smallest value around each pixel: in place of a block's function or after it.

    In place of a function of degree 1 only, so that the values keep their scale.
    """
    shape = model.blocks[block]
    now = activation(shape.activation)
    if now.window:
        yield f"block {block}: {activation('none').words}", _with(lists, block, activation="none")
    for name in known_activations():
        other = activation(name)
        if not other.window or name == now.name:
            continue
        if now.degree == other.degree:
            yield f"block {block}: {other.words}", _with(lists, block, activation=name)
        if not model.shared_weights:
            twice = _with_twice(lists, block)
            after = _with(twice, block + 1, activation=name, **_plain(shape.width))
            yield f"block {block}, then {other.words}", twice | after


def _factored(
    lists: Mapping[str, list[Any]], model: FilterNetConfig, block: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A k x k kernel as a column and a row, with one channel between or each on its own."""
    high, wide = model.blocks[block].kernel
    before, after = slice(0, block), slice(block + 1, None)
    twice = _with_twice(lists, block)
    for key in ("activation", "norm"):  # the first of the two is linear
        twice[key] = [*lists[key][before], "none", *lists[key][block:]]
    for kernels in ([f"{high}x1", f"1x{wide}"], [f"1x{wide}", f"{high}x1"]):
        words = f"block {block}: {kernels[0]} then {kernels[1]}"
        sizes = {
            "kernel_size": [*lists["kernel_size"][before], *kernels, *lists["kernel_size"][after]]
        }
        for depthwise in (True, False):
            kept, rest = lists["depthwise"][: block + 1], lists["depthwise"][after]
            apart = {"depthwise": [*kept, depthwise, *rest]}
            yield words + (" depthwise" if depthwise else ""), twice | sizes | apart
        narrow = {"capacity": [*lists["capacity"][before], 1, *lists["capacity"][block:]]}
        yield f"{words}, one channel between", twice | sizes | narrow


def _longer(side: int) -> int:
    """A side of a kernel that reaches one pixel farther; one that reaches nowhere stays."""
    return side if side == 1 else min(side + 2, SIDES[-1])


def _without(lists: Mapping[str, list[Any]], block: int) -> dict[str, Any]:
    """The keys of a network with one block less."""
    shorter: dict[str, Any] = {key: [*v[:block], *v[block + 1 :]] for key, v in lists.items()}
    return shorter | {"num_layers": len(shorter["capacity"])}


def _with_twice(lists: Mapping[str, list[Any]], block: int) -> dict[str, Any]:
    """The keys of a network with one block twice."""
    longer: dict[str, Any] = {key: [*v[: block + 1], *v[block:]] for key, v in lists.items()}
    return longer | {"num_layers": len(longer["capacity"])}


def _with(lists: Mapping[str, list[Any]], block: int, **values: Any) -> dict[str, Any]:
    """The lists with other values of one block."""
    return {key: [*lists[key][:block], v, *lists[key][block + 1 :]] for key, v in values.items()}


def _listed(model: FilterNetConfig, key: str) -> list[Any]:
    value = getattr(model, key)
    return list(value) if isinstance(value, list) else [value] * model.num_layers


def _written(high: int, wide: int) -> int | str:
    return high if high == wide else f"{high}x{wide}"
