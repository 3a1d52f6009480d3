"""Studies of the int8 kernels: paths, stages, rounding."""
