"""Checkpoint to bundle: reads weights without PyTorch, writes ONNX graphs made for their target."""
