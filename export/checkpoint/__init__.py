"""A checkpoint as read from a folder or the hub: its configuration, weights and tokenizer."""
