"""Frozen features, kNN, linear probe, and accuracy by class and group.

Others import `monitor`, `picture_records`, `pictures`, `protocol_options`, `protocols`,
`view_ensemble`.
"""
