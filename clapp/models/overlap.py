"""Initial weights copied from another network of the same family, where the two overlap."""

from collections.abc import Mapping

from torch import Tensor


def overlap(weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a new network, with the weights that a trained one has too.

    Weights are copied by name and position. Where the new network is wider, weights from additional
    inputs to copied outputs begin at zero, so that these outputs do not change (Net2Net, Chen et
    al. 2016).

    Args:
        weights: the state of the trained network.
        fresh: a newly drawn state of the new network; its values stay where the trained one has
            none.
    """
    state = {name: value.clone() for name, value in fresh.items()}
    for name, value in state.items():
        old = weights.get(name)
        if old is None or old.dim() != value.dim():
            continue
        shared = tuple(slice(min(a, b)) for a, b in zip(old.shape, value.shape, strict=True))
        if value.dim() > 1:
            value[shared[:1]] = 0
        value[shared] = old[shared].to(value.dtype)
    return state
