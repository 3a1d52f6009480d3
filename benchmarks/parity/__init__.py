"""Every variant against PyTorch on the same windows: run, judged and reported."""
