"""``fastspan tune``: what runs fastest on this machine, measured."""
