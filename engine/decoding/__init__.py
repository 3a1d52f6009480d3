"""Logits to predictions, in numpy alone."""
