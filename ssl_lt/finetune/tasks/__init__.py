"""Training steps with labels: one task a kind of loss."""
