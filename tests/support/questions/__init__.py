"""Questions: real ones, and some in the words of the small models."""
