"""Bundles that were made up, or forged."""
