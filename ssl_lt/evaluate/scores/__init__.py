"""Accuracies of predictions by class and group, with intervals and calibration.

Others import `accuracy`, `confusion`, `correct_mask`, `evaluation`, `intervals`, `predictions`,
`softmax`, `temperature`.
"""
