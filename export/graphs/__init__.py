"""A description of an encoder, and that as one ONNX graph a target."""
