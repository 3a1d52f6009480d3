"""Every graph on real questions against its reference, and the gate it must pass."""
