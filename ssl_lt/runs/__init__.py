"""A run from its configuration to its results, for Python and the command line alike.

Others import `evaluate`, `export`, `finetune`, `pretrain`, `retrain`, `series`, `tail`.
"""
