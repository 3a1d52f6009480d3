"""What others give: PyTorch, transformers and the tokenizers library."""
