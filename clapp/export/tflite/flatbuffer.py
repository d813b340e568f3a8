"""A TFLite file as tensors and operators, by the classes that LiteRT ships for its schema."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp.errors import UserError
from clapp.training.int8.scales import Scale

Array = NDArray[Any]
_OPTIONS = {
    "ABS": "Abs",
    "ADD": "Add",
    "CONCATENATION": "Concatenation",
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "DEQUANTIZE": "Dequantize",
    "DIV": "Div",
    "GELU": "Gelu",
    "LEAKY_RELU": "LeakyRelu",
    "MAX_POOL_2D": "Pool2D",
    "MEAN": "Reducer",
    "MIRROR_PAD": "MirrorPad",
    "MUL": "Mul",
    "PAD": "Pad",
    "QUANTIZE": "Quantize",
    "REDUCE_MAX": "Reducer",
    "RESIZE_BILINEAR": "ResizeBilinear",
    "SLICE": "Slice",
    "SUB": "Sub",
}
"""Operators that have options, and the class of these."""
_TYPES = {"float32": "FLOAT32", "int32": "INT32", "int64": "INT64"} | {
    name: name.upper() for name in ("int8", "int16", "uint8")
}
_ALIGNMENT = 16  # of constants in the file: chips read them where they lie


class Tensor(NamedTuple):
    """A tensor of the file; `scale` None: of floats."""

    number: int
    shape: tuple[int, ...]
    scale: Scale | None = None


def schema() -> Any:
    """The classes of TFLite's schema.

    Raises:
        UserError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(
            "--format tflite: the package ai-edge-litert is missing; install clapp[tflite]"
        ) from error
    return schema_py_generated


class Builder:
    """Collects the tensors and operators of one file."""

    def __init__(self) -> None:
        self._schema = schema()
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[bytes] = [b""]
        self._codes: dict[str, int] = {}
        self._stored: dict[tuple[Any, ...], Tensor] = {}

    def tensor(
        self, shape: Sequence[int], scale: Scale | None, name: str = "", *, uint8: bool = False
    ) -> Tensor:
        """A tensor that an operator writes, or the caller."""
        kind = "float32" if scale is None else "uint8" if uint8 else f"int{scale.bits}"
        quantised = None if scale is None else self._quantised([scale.step], [scale.zero], 0)
        return self._add(shape, kind, 0, quantised, name)._replace(scale=scale)

    def constant(self, values: Array, steps: Array | None = None, axis: int = 0) -> Tensor:
        """A constant; with `steps`, one a level on `axis`, its values are levels."""
        key = (
            values.dtype.str,
            values.shape,
            values.tobytes(),
            None if steps is None else steps.tobytes(),
        )
        if key not in self._stored:
            quantised = None
            if steps is not None:
                quantised = self._quantised(steps.tolist(), [0] * len(steps), axis)
            self._buffers.append(values.tobytes())
            buffer = len(self._buffers) - 1
            self._stored[key] = self._add(values.shape, values.dtype.name, buffer, quantised, "")
        return self._stored[key]

    def op(
        self,
        code: str,
        inputs: Sequence[Tensor],
        shape: Sequence[int],
        scale: Scale | None = None,
        **options: Any,
    ) -> Tensor:
        """Add an operator with one output, and return that; `options` are fields of its class."""
        output = self.tensor(shape, scale)
        made = self._schema.OperatorT()
        made.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        made.inputs = [tensor.number for tensor in inputs]
        made.outputs = [output.number]
        if code in _OPTIONS:
            name = f"{_OPTIONS[code]}Options"
            made.builtinOptionsType = getattr(self._schema.BuiltinOptions, name)
            made.builtinOptions = getattr(self._schema, f"{name}T")()
            for key, value in options.items():
                assert hasattr(made.builtinOptions, key), key
                setattr(made.builtinOptions, key, value)
        self._operators.append(made)
        return output

    def number(self, group: str, name: str) -> int:
        """A number of the schema: `number("Padding", "SAME")`."""
        return int(getattr(getattr(self._schema, group), name))

    def finish(self, image: Tensor, output: Tensor, names: tuple[str, str], said: str) -> bytes:
        """The file, whose input and output have `names`; `said` is its description."""
        s = self._schema
        for tensor, name in zip((image, output), names, strict=True):
            self._tensors[tensor.number].name = name
        graph = s.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs, graph.name = [image.number], [output.number], "clapp"
        signature = s.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        maps = []
        for tensor, name in zip((image, output), names, strict=True):
            one = s.TensorMapT()
            one.name, one.tensorIndex = name, tensor.number
            maps.append(one)
        signature.inputs, signature.outputs = maps[:1], maps[1:]
        model = s.ModelT()
        model.version, model.description = 3, said
        model.operatorCodes = [self._code(name) for name in self._codes]
        model.subgraphs, model.signatureDefs = [graph], [signature]
        model.buffers = [self._buffer(data) for data in self._buffers]
        return _packed(model)

    def _add(
        self, shape: Sequence[int], kind: str, buffer: int, quantised: Any, name: str
    ) -> Tensor:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.buffer, tensor.quantization = list(shape), buffer, quantised
        tensor.type = self.number("TensorType", _TYPES[kind])
        tensor.name = name or f"tensor{len(self._tensors)}"
        self._tensors.append(tensor)
        return Tensor(len(self._tensors) - 1, tuple(shape))

    def _quantised(self, steps: list[float], zeros: list[int], axis: int) -> Any:
        made = self._schema.QuantizationParametersT()
        made.scale, made.zeroPoint, made.quantizedDimension = steps, zeros, axis
        return made

    def _code(self, name: str) -> Any:
        made = self._schema.OperatorCodeT()
        number = self.number("BuiltinOperator", name)
        made.builtinCode, made.deprecatedBuiltinCode, made.version = number, min(number, 127), 1
        return made

    def _buffer(self, data: bytes) -> Any:
        s = self._schema

        class Buffer(s.BufferT):  # type: ignore[misc,name-defined]
            """Writes its bytes at a multiple of 16, which the class of the schema does not."""

            def Pack(self, builder: Any) -> Any:  # noqa: N802
                if data:
                    builder.StartVector(1, len(data), _ALIGNMENT)
                    for byte in reversed(data):
                        builder.PrependByte(byte)
                    place = builder.EndVector()
                s.BufferStart(builder)
                if data:
                    s.BufferAddData(builder, place)
                return s.BufferEnd(builder)

        return Buffer()


def _packed(model: Any) -> bytes:
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def as_float32(value: Any) -> Array:
    """A number or an array as constants are stored."""
    return np.asarray(value, np.float32)
