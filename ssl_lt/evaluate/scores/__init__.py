"""Accuracies of predictions by class and group, with intervals and calibration.

Others import `accuracy`, `confusion`, `correct_mask`, `evaluation`, `group_intervals`,
`intervals`, `predictions`, `softmax`, `temperature`.
"""
