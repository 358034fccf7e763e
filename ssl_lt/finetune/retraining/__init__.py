"""Classifiers made after training, from cached features or logits, in seconds.

Others import `cached`, `linear`, `post_hoc`, `registry`.
"""
