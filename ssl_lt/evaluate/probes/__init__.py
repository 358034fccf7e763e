"""Linear probes.

Others import `draws`, `linear_probe`, `published_probe`.
"""
