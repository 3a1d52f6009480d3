"""Accuracy against PyTorch, latency, throughput, and peers side by side."""
