"""FastSpan: extractive question answering on ONNX Runtime."""
