"""The losses as modules for a loop of one's own: inputs checked, results reduced.

They are imported from `ssl_lt.losses`. `finetune.py` and `pretrain.py` train with what is inside
them, which looks at no value and so never waits for the device.

Others import `class_balanced`, `classification`, `contrastive`, `harmonization`.
"""
