"""Small models: checkpoints, encoders and tokenizers, made on the spot."""
