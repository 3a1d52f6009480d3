"""The service under load: offered in an open loop from this process, answered by another."""
