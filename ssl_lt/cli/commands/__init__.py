"""One file a command; none imports another.

Others import `evaluate`, `finetune`, `pretrain`, which are functions of `ssl_lt` as well.
"""
