"""From a configuration to networks and tasks.

Others import `batches`, `defaults`, `experts`, `finetuning`, `heads`, `pretraining`, `prior`,
`selection`.
"""
