"""int8: inputs observed and centred, channels split, weights rounded; what that costs."""
