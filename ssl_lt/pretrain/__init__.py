"""Methods that learn from two views of an image, without labels.

Others import `harmonization`, `parts`, `registry`, `two_views`.
"""
