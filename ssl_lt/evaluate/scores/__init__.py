"""Accuracies of predictions by class and group, with intervals and calibration.

Others import `accuracy`, `correct_mask`, `evaluation`, `intervals`, `predictions`, `softmax`.
"""
