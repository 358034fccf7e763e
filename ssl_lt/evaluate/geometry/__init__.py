"""How features lie in their space: spread, alignment, uniformity, collapse.

Others import `collapse`, `representation`, `view_pair`.
"""
