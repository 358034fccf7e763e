"""The typed configuration of each command, and of a run that is stored.

Others import `budget`, `evaluate`, `export`, `finetune`, `inference`, `parse`, `pretrain`,
`retrain`, `run`, `schema`, `series`, `stored`, `tail`.
"""
