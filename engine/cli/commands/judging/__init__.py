"""The commands that measure: accuracy, confidence, load, and what follows from them."""
