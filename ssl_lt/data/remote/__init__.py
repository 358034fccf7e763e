"""Tar shards, here or in an object store.

Others import `shards` and `tar_index`.
"""
