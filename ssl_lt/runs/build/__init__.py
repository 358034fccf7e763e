"""From a configuration to networks and tasks.

Others import `batches`, `experts`, `finetuning`, `heads`, `pretraining`, `selection`.
"""
