"""Light fine-tuning: which weights of a backbone are trained, and what is inserted into it.

Others import `apply`, `exported`, `merge`, `registry`.
"""
