"""Windows to logits: ONNX Runtime's sessions, what they run together, and on which provider."""
