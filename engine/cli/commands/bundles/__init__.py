"""The commands that make, show and hand on bundles."""
