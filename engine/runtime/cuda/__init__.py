"""Packed graphs on an NVIDIA GPU, and their captured runs."""
