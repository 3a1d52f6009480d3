"""HTTP itself: bodies, responses, connections, keys, and the routes' description."""
