"""Accuracies of predictions by class and group, with intervals and calibration."""
