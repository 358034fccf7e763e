"""Batched augmentation on the device, a pure function of the samples' keys.

Others import `boosted`, `classifier_view`, `geometric`, `mixing`, `views`.
"""
