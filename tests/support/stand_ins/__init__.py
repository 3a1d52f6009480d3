"""Stand-ins for what a test cannot have: a GPU, a hub, another process, another program."""
