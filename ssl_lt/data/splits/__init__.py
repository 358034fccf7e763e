"""Which images train, test and validate, and which cannot be read."""
