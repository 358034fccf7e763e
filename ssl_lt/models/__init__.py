"""Backbones, heads and classifiers.

Others import `backbones`, `batch_norm`, `classifiers`, `expert_classifiers`, `export`, `heads`,
`momentum_encoder`, `onnx`, `options`, `pruned_twin`, `released`, `weights`.
"""
