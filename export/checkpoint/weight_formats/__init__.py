"""Weights under PyTorch's names, a module a file format."""
