"""Frozen features, kNN, linear probe, and accuracy by class and group."""
