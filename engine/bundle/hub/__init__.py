"""Bundles and checkpoints from a hub: at one commit, file by file, into the user's caches."""
