"""The one training loop, and what survives it.

Others import `fit`, `optim`, `out_of_memory`, `plan`, `schedule`, `signals`.
"""
