"""The machine that speed is measured on."""
