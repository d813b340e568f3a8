"""What the ONNX operators of the steps of a network have in common, and some kinds of them."""
