"""Which images train, test and validate, and which cannot be read.

Others import `hold_out`, `images`, `make`, `split`, `test_split`, `train_split`, `unreadable`.
"""
