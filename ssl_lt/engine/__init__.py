"""The one training loop, and what survives it."""
