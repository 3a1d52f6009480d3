"""What is measured of a bundle after its export, and kept beside its manifest or in a user's cache."""
