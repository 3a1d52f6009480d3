"""Strings to windows: checked, tokenized and cut."""
