"""How features lie in their space: spread, alignment, uniformity, collapse.

Others import `centres`, `collapse`, `representation`, `view_pair`.
"""
