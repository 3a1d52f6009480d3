"""A module a system: what it runs, and how it is asked; and what several of them share."""
