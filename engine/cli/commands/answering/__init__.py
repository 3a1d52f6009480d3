"""The commands that answer: a question, a file of them, or whoever asks over HTTP."""
