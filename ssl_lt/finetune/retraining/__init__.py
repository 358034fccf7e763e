"""Classifiers made after training, from cached features or logits, in seconds."""
