"""Batched augmentation on the device, a pure function of the samples' keys."""
