"""An encoder description lowered to one ONNX graph per target."""
