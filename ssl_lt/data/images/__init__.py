"""Decoding of image files, and the crops that are cut from them.

Others import `crops`, `decode`, `formats`, `listing`.
"""
