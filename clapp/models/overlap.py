"""First weights of a network from those of another one of its family: what the two share."""

from collections.abc import Mapping

from torch import Tensor


def overlap(weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a new network, with what a trained one has of it.

    Values are taken over by their names and places. Where the new network is wider, what its
    additional inputs add to the outputs taken over begins with zero, so that these outputs stay
    what they were (Net2Net, Chen et al. 2016).

    Args:
        weights: the state of the trained network.
        fresh: a newly drawn state of the new one; its values stay where there is no counterpart.
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
