"""A network whose settings are arguments of its call, beside the picture."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clapp.filters.learned.settings import Setting, chosen


def with_settings(x: Tensor, values: Sequence[Tensor], settings: Sequence[Setting]) -> Tensor:
    """Pictures (N, 3, H, W) with a constant channel for each value, (1,) or (N,): (N, 3 + n, H, W).

    Values are in the units of their settings.
    """
    planes = [
        s.fraction(value.reshape(-1, 1, 1, 1)).expand(x.shape[0], 1, *x.shape[2:])  # type: ignore[arg-type, attr-defined]
        for s, value in zip(settings, values, strict=True)
    ]
    return torch.cat([x, *planes], 1)


class Joined(nn.Module):
    """A network as a function of pictures (N, 3, H, W) and a tensor, (1,) or (N,), a setting."""

    def __init__(self, net: nn.Module, settings: Sequence[Setting]) -> None:
        super().__init__()
        self.net, self.settings = net, tuple(settings)

    def forward(self, x: Tensor, *values: Tensor) -> Tensor:
        """(N, C, H, W), not clamped."""
        y: Tensor = self.net(with_settings(x, values, self.settings) if self.settings else x)
        return y


class Adjustable(nn.Module):
    """What `clapp.load` returns of a network with settings: `model(x, sigma=1.2)`.

    Attributes:
        net: the network, which takes settings as channels.
        config, min_size: of the network.
        settings: their names and ranges.
    """

    def __init__(self, net: nn.Module, settings: Sequence[Setting], name: str) -> None:
        super().__init__()
        self.net, self.settings, self._model_name = net, tuple(settings), name
        self.config, self.min_size = net.config, net.min_size

    def forward(self, x: Tensor, **values: float | Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, C, H, W), not clamped.

        Args:
            values: one for each setting, by name: a number, or a tensor (N,) with one a picture.

        Raises:
            UserError: one is missing, unknown or out of its range.
        """
        ends = {name: _ends(value) for name, value in values.items() if value is not None}
        for one in (0, -1):
            chosen(self.settings, {n: v[one] for n, v in ends.items()}, self._model_name, "{}=")
        given = [
            torch.as_tensor(values[s.name], dtype=x.dtype, device=x.device) for s in self.settings
        ]
        y: Tensor = self.net(with_settings(x, given, self.settings))
        return y


def _ends(value: float | Tensor) -> list[float]:
    """The least and the largest of one or several values."""
    if isinstance(value, Tensor):
        return [float(value.min()), float(value.max())]
    return [value]
