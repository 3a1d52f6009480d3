"""A bundle in the form that a hosting platform takes, and what its functions there call."""
