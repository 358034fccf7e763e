"""Data sets by name: one file a source, one registry.

Others import `parts`, `registry`, `source`.
"""
