"""A bundle as a repository on the hub: its card, the names that others look for, one commit."""
