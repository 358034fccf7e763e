"""The one training loop, and what survives it.

Others import `fit`, `grad_checkpointing`, `optim`, `out_of_memory`, `plan`, `schedule`, `signals`,
`speed`.
"""
