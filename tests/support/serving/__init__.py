"""A service under test: in a thread or a process, under load, and in a browser."""
