"""Class-balanced sampling and class weights.

Others import `class_rates`, `meta_sampler`, `reweighting`, `tail_sharpness`.
"""
