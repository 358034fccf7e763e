"""A run from its configuration to its results, for Python and the command line alike.

Others import `evaluate`, `export`, `finetune`, `finished`, `pretrain`, `retrain`, `series`, `tail`.
"""
