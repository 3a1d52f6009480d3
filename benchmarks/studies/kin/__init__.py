"""Architectures of the same kin as BERT: how near their exports are to PyTorch, and how fast they run."""
