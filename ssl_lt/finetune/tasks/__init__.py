"""Training steps with labels: one task a kind of loss.

Others import `classifier_task`, `contrast_task`, `elm`, `hybrid`, `meta_sampled_task`,
`parametric_contrast`, `robust_task`, `sub_class_task`.
"""
