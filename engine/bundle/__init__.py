"""The exported folder: its manifest and variants, which of them suits this machine, where it comes from."""
