"""A run from its configuration to its results, for Python and the command line alike.

Others import `embed`, `evaluate`, `export`, `finetune`, `finished`, `predict`, `pretrain`,
`retrain`, `series`, `tail`.
"""
