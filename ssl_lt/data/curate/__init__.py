"""Looking at a data set before training: inspection, a summary, packing.

Others import `describe`, `inspection`, `pack`, `summary`.
"""
