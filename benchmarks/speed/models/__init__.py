"""The models that speed is measured on."""
