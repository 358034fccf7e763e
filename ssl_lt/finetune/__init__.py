"""Training with labels.

Others import `learning_rates`, `parts`, `registry`.
"""
