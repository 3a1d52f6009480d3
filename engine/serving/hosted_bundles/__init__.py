"""The bundles that a service runs: by name, in the model's turn, and compared in the background."""
