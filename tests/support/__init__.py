"""What tests share: where things lie, stand-ins, and makers of small models."""
