"""Who gets which image when: the order of an epoch, and the loaders that follow it.

Others import `class_sampled_plan`, `class_sampler`, `ordered`, `paired_plan`, `plan`, `shard_plan`,
`worker_loader`, `workers`.
"""
