"""Tar shards, here or in an object store.

Others import `shards`, `tar_index`.
"""
