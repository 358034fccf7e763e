"""Which training images look rare, without their labels, and which of them to label first.

Others import `budget`, `findings`, `scores`.
"""
