"""Several classifiers that share a backbone: RIDE and ACE.

Others import `options`, `router`, `task`.
"""
