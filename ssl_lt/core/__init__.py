"""Types, randomness and options: what everything else stands on.

Others import `checks`, `errors`, `groups`, `kmeans`, `memory`, `options`, `precision`, `progress`,
`random`, `sgd`, `standardise`, `task`, `types`, `version`.
"""
