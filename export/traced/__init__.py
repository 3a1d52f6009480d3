"""Every architecture without a native lowering: traced by optimum, fused and quantized."""
