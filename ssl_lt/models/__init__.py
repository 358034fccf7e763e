"""Backbones, heads and classifiers."""
