"""What clients send and get: one module a protocol."""
