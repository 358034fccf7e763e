"""From a configuration to networks and tasks.

Others import `batches`, `defaults`, `experts`, `finetuning`, `heads`, `knn_data`, `pretraining`,
`prior`, `selection`, `views`.
"""
