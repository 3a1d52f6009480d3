"""The systems that are measured, FastSpan among them, each in a process of its own."""
