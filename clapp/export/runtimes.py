"""Other runtimes that read the ONNX file: OpenCV's dnn module and OpenVINO."""

import numpy as np

from clapp.errors import UserError, one_line
from clapp.export.formats import ONNX, Bundle, Written
from clapp.inference.adjusted import feed
from clapp.inference.runner import Batch

XML = "model.xml"


def try_opencv(bundle: Bundle) -> Written:
    """`model.onnx` read and run by OpenCV; no file of its own."""
    import cv2

    if bundle.options.uint8:
        return Written({}, {}, {"OpenCV dnn": "not with --uint8: it takes float32 pictures"})
    settings = bundle.config.settings
    try:
        network = cv2.dnn.readNetFromONNX(str(bundle.folder / ONNX))
    except cv2.error as error:
        return Written({}, {}, {"OpenCV dnn": f"cannot read it: {one_line(error)[:120]}"})

    def run(batch: Batch) -> Batch:
        for name, value in feed(batch, settings, uint8=False).items():
            network.setInput(value, name)
        return np.asarray(network.forward())

    return Written({}, {}, {"OpenCV dnn": run})


def write_openvino(bundle: Bundle) -> Written:
    """`model.xml` and `model.bin`, OpenVINO's own files, and a function that runs them.

    Raises:
        UserError: OpenVINO is not installed.
    """
    try:
        import openvino  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(
            "--format openvino: the package openvino is missing; install clapp[openvino]"
        ) from error
    core = openvino.Core()
    model = core.read_model(str(bundle.folder / ONNX))
    openvino.save_model(model, str(bundle.folder / XML), compress_to_fp16=False)
    # By default it computes in bfloat16 if the processor can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(str(bundle.folder / XML), "CPU", exact)

    def run(batch: Batch) -> Batch:
        given = feed(batch, bundle.config.settings, uint8=bundle.options.uint8)
        return np.asarray(compiled(given)[0])

    files = {XML: "the network for OpenVINO", "model.bin": "its weights"}
    return Written(files, {}, {"OpenVINO": run})
