"""Steps that need statistics of the whole picture, as ONNX operators."""

from clapp.export.operators.collect import Operators
from clapp.models.graph.nodes import MAX_EPS, MOMENT_EPS, NORM_EPS, Node, never_negative


class Whole(Operators):
    """Writes them."""

    def _norm(self, node: Node, x: str) -> None:
        """Group normalisation with one group, its means taken axis by axis.

        ONNX Runtime's normalisation operators sum a whole picture in one float32: the error is 1e-5
        at 224x224 and 1e-3 at 2048x2048. Sums along rows are exact to 1e-6.
        """
        weight, bias = node.weights
        assert weight is not None
        assert bias is not None
        shape = (1, node.channels, 1, 1)
        centred = self.op("Sub", x, self._mean(x))
        variance = self._mean(self.op("Mul", centred, centred))
        root = self.op("Sqrt", self.op("Add", variance, self.constant(NORM_EPS)))
        scaled = self.op("Mul", centred, self.op("Div", self.weight(weight, shape), root))
        self.op("Add", scaled, self.weight(bias, shape), output=node.output)

    def _moments(self, node: Node, x: str) -> None:
        mean = self._mean(x, (3, 2))
        centred = self.op("Sub", x, mean)
        variance = self._mean(self.op("Mul", centred, centred), (3, 2))
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(MOMENT_EPS)))
        normal = self.op("Div", centred, deviation)
        cube = self.op("Mul", self.op("Mul", normal, normal), normal)
        third = self.op("Tanh", self._mean(cube, (3, 2)))
        most = self.op("GlobalMaxPool", x)
        self.op("Concat", mean, most, deviation, third, output=node.output, axis=1)

    def _modulate(self, node: Node, x: str, change: str) -> None:
        width = node.channels
        factor = self.op("Add", self._channels(change, 0, width), self.constant(1))
        scaled = self.op("Mul", x, factor)
        offset = self._channels(change, width, 2 * width)
        self.op("Add", scaled, offset, output=node.output)

    def _maximum(self, node: Node, x: str) -> None:
        size = x
        if not never_negative(self._graph, node.inputs[0], self._weights):
            size = self.op("Abs", x)
        size = self.op("GlobalMaxPool", size)
        if node.channels > 1:
            size = self._reduce("ReduceMax", size, 1)
        self.op("Div", x, self.op("Add", size, self.constant(MAX_EPS)), output=node.output)

    def _peak(self, node: Node, x: str) -> None:
        self.op("GlobalMaxPool", x, output=node.output)

    def _times(self, node: Node, x: str, factor: str) -> None:
        self.op("Mul", x, factor, output=node.output)

    def _over(self, node: Node, x: str, size: str) -> None:
        below = self.op("Add", size, self.constant(MAX_EPS))
        self.op("Div", x, below, output=node.output)
