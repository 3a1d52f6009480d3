"""The systems that are measured, FastSpan among them: which, and the process and environment of each."""
