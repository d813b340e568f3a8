"""The network of the family `can`.

In the paper its adaptive normalisation is a x + b BN(x). Statistics of small batches are noisy, and
they would make the result for a picture depend on the rest of its batch. Here x is normalised by
running averages in training too, without gradients through them, so a trained network is a chain of
plain convolutions.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from clapp.filters.learned.setting import PICTURE
from clapp.models.activations import activation
from clapp.models.networks.initialise import standardise

if TYPE_CHECKING:
    from clapp.models.families.can import CanConfig

_EPS = 1e-3
_MOMENTUM = 0.05


class AdaptiveNorm(nn.Module):
    """a x + b ((x - mean) / deviation + c), with running averages and learned numbers a, b, c.

    Attributes:
        own, normal: a and b, both (1, 1, 1, 1), initially 1 and 0.
        shift: c, one for each channel.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.ones(1, 1, 1, 1))
        self.normal = nn.Parameter(torch.zeros(1, 1, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("variance", torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if self.training and torch.is_grad_enabled():
            self._follow(x)
        normal = (x - self.mean) / (self.variance + _EPS).sqrt() + self.shift
        return self.own * x + self.normal * normal

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0, keepdim=True)
        self.mean.lerp_(mean, _MOMENTUM)
        self.variance.lerp_(variance, _MOMENTUM)

    def affine(self) -> tuple[Tensor, Tensor]:
        """The equivalent factor and offset of each channel, (C,) each."""
        scale = self.normal / (self.variance + _EPS).sqrt()
        factor = self.own + scale
        offset = self.normal * self.shift - scale * self.mean
        return factor.flatten(), offset.flatten()


class Layer(nn.Module):
    """A dilated 3x3 convolution, normalisation and activation."""

    def __init__(self, inputs: int, outputs: int, dilation: int, config: "CanConfig") -> None:
        super().__init__()
        adaptive = config.norm == "adaptive"
        mode = "zeros" if config.padding == "zero" else config.padding
        how = {"padding": dilation, "dilation": dilation, "padding_mode": mode}
        self.conv = nn.Conv2d(inputs, outputs, 3, bias=not adaptive, **how)  # type: ignore[arg-type]
        self.norm = AdaptiveNorm(outputs) if adaptive else nn.Identity()
        self.activation = activation(config.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return self.activation(self.norm(self.conv(x)))


class Can(nn.Module):
    """Dilated layers and a 1x1 convolution; the picture's size is kept."""

    def __init__(self, config: "CanConfig") -> None:
        super().__init__()
        self.settings = config.scaled_by
        ends = [config.input_channels - self.settings, *[config.width] * config.depth]
        self.layers = nn.Sequential(
            *(
                Layer(inputs, outputs, dilation, config)
                for inputs, outputs, dilation in zip(ends, ends[1:], config.dilations, strict=False)
            )
        )
        self.scales = nn.ModuleList(
            _no_change(self.settings, config.width)
            for _ in range(config.depth * bool(self.settings))
        )
        self.head = nn.Conv2d(config.width, config.output_channels, 1)
        standardise(self, config.input_channels, list(self.layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W), values in [0, 1], to (B, Cout, H, W); the result is not clamped."""
        y = self.layers(x) if not self.settings else self._scaled(x)
        result: Tensor = self.head(y)
        return result

    def _scaled(self, x: Tensor) -> Tensor:
        """The features, scaled and shifted by the settings before each activation."""
        values = x[:, PICTURE:, :1, :1]  # constant channels
        x = x[:, :PICTURE]
        for layer, scale in zip(self.layers, self.scales, strict=True):
            assert isinstance(layer, Layer)
            factor, offset = scale(values).chunk(2, 1)  # (B, width, 1, 1) each
            x = layer.activation(layer.norm(layer.conv(x)) * (1 + factor) + offset)
        return x


def _no_change(settings: int, width: int) -> nn.Conv2d:
    """Factors and offsets of a layer, zero at first."""
    scale = nn.Conv2d(settings, 2 * width, 1)
    for value in scale.parameters():
        nn.init.zeros_(value)
    return scale


@torch.no_grad()
def folded(net: Can) -> Can:
    """The same network with normalisations folded into its convolutions."""
    config = cast("CanConfig", net.config)
    if config.norm == "none":
        return net
    plain = Can(config.model_copy(update={"norm": "none"})).eval()
    for new, old in zip(plain.layers, net.layers, strict=True):
        assert isinstance(new, Layer)
        assert isinstance(old, Layer)
        assert isinstance(old.norm, AdaptiveNorm)
        assert new.conv.bias is not None
        factor, offset = old.norm.affine()
        new.conv.weight.copy_(old.conv.weight * factor.view(-1, 1, 1, 1))
        new.conv.bias.copy_(offset)
    plain.scales.load_state_dict(net.scales.state_dict())
    plain.head.load_state_dict(net.head.state_dict())
    return plain
