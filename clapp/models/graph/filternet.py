"""The steps of a FilterNet."""

from clapp.config.filternet import BlockShape, FilterNetConfig
from clapp.models.graph.builder import Builder
from clapp.models.graph.nodes import IMAGE, Graph


def filternet_graph(config: FilterNetConfig) -> Graph:
    """The steps that `FilterNet.forward` takes; the weights have the names of its state.

    Raises:
        NoStepsError: an activation comes from outside of the package.
    """
    build = _Builder(config)
    value = IMAGE
    if config.downsample == 2:
        value = build.pool(value, 2, grid=2)
    if config.stem != 0:
        value = build.conv(value, config.stem_channels, "prep", config.bias)
    for number, block in enumerate(config.blocks):
        place = f"main.{0 if config.shared_weights else number}"
        value = build.block(value, block, place)
    outputs = config.output_channels
    if config.head == "conv":
        value = build.conv(value, outputs, "post", config.bias)
    else:
        value = build.add("sum", value, outputs)
    if config.output_activation != "none":
        function = {"sqrt": "root"}.get(config.output_activation, config.output_activation)
        value = build.add("function", value, outputs, function=function)
    if config.downsample == 2:
        value = build.enlarge(value, 2, grid=1)
    if config.output_norm == "max":
        build.add("maximum", value, outputs)
    return build.graph()


class _Builder(Builder):
    def __init__(self, config: FilterNetConfig) -> None:
        super().__init__(config.input_channels)
        self._config = config

    def block(self, value: str, shape: BlockShape, place: str) -> str:
        skipped = value
        if shape.norm_first:
            value = self._norm(value, shape, shape.channels, place)
        value = self._convolutions(value, shape, place)
        if not shape.norm_first:
            value = self._norm(value, shape, shape.width, place)
        value = self.activation(value, shape.activation)
        if not shape.has_skip:
            return value
        scales = (
            f"{place}.alfa" if shape.rezero else None,
            f"{place}.beta" if shape.reskip else None,
        )
        return self.add("mix", value, shape.width, skipped, weights=scales)

    def _convolutions(self, value: str, shape: BlockShape, place: str) -> str:
        after = self._config.padding == "zero_after"
        how = {
            "kernel": shape.kernel,
            "dilation": shape.dilation,
            "border": "none" if after else self._config.padding,
        }
        bias = self._config.bias
        if shape.separable:
            place = f"{place}.conv"
            value = self.conv(
                value, shape.channels, f"{place}.0", bias=False, groups=shape.channels, **how
            )
            value = self.conv(value, shape.width, f"{place}.1", bias)
        else:
            groups = shape.channels if shape.depthwise else 1
            value = self.conv(value, shape.width, f"{place}.conv.0", bias, groups=groups, **how)
        if after and max(shape.border):
            value = self.add("pad", value, shape.width, outside=shape.border)
        return value

    def _norm(self, value: str, shape: BlockShape, channels: int, place: str) -> str:
        if shape.norm == "none":
            return value
        weights = (f"{place}.norm.weight", f"{place}.norm.bias")
        return self.add("norm", value, channels, weights=weights)
