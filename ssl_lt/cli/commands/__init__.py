"""One file a command; none imports another.

Others import `embed`, `evaluate`, `finetune`, `predict`, `pretrain`, which are functions of
`ssl_lt` as well.
"""
