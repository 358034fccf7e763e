"""Looking at a data set before training: inspection, packing.

Others import `describe`, `inspection`, `pack`.
"""
