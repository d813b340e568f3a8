"""A network in integers as ONNX: values rounded by QuantizeLinear, kernels a scale a channel."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from clapp.export.onnx_steps import Writer
from clapp.export.operators.collect import Array
from clapp.export.options import Options
from clapp.filters.learned.settings import Setting
from clapp.models.graph.nodes import IMAGE, OUTPUT, Graph, Node, unrounded
from clapp.training.int8.scales import Bits, Scale, Scales, fused, kernel_steps

OPSETS: dict[Bits, int] = {8: 13, 16: 21}
"""The first in which weights have a scale for each channel, and in which values have 16 bits."""


class Int8Writer(Writer):
    """Writes every rounded value through QuantizeLinear and DequantizeLinear."""

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        scales: Scales,
        options: Options,
        settings: Sequence[Setting] = (),
    ) -> None:
        least = OPSETS[scales[IMAGE].bits]
        super().__init__(graph, weights, options, max(options.opset or least, least), settings)
        self._scales, self._exact, self._floats = scales, fused(graph), unrounded(graph)

    def _start(self) -> None:
        self._renamed[IMAGE] = self._rounded(self._picture(), self._scales[IMAGE], None)

    def _step(self, node: Node, *inputs: str) -> None:
        if node.output in self._exact or node.output in self._floats:
            super()._step(node, *inputs)
            return
        exact = replace(node, output=f"{node.output}_exact")
        super()._step(exact, *inputs)
        name = OUTPUT if node.output == OUTPUT else None
        self._renamed[node.output] = self._rounded(exact.output, self._scales[node.output], name)

    def _rounded(self, x: str, scale: Scale, output: str | None) -> str:
        how = self.constant(scale.step), self.constant(scale.zero, f"int{scale.bits}")
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *how), *how, output=output)

    def _kernel_and_bias(self, node: Node) -> list[str]:
        if node.output in self._floats:
            return super()._kernel_and_bias(node)
        kernel, bias = node.weights
        assert kernel is not None
        values = self._weights[kernel]
        steps = kernel_steps(torch.from_numpy(np.ascontiguousarray(values))).numpy()
        levels = np.rint(values / steps[:, None, None, None]).astype(np.int8)
        names = [self._dequantized(f"{node.output}_kernel", levels, steps)]
        if bias is not None:
            wide = steps * np.float32(self._scales[node.inputs[0]].step)
            whole = np.rint(self._weights[bias] / wide).astype(np.int32)
            names.append(self._dequantized(f"{node.output}_bias", whole, wide))
        return names

    def _dequantized(self, name: str, levels: Array, steps: Array) -> str:
        self.initializers[name], self.initializers[f"{name}_step"] = levels, steps
        zeros = self.constant(np.zeros(len(steps)), levels.dtype)
        return self.op("DequantizeLinear", name, f"{name}_step", zeros, axis=0)
