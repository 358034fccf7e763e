"""Data sets by name: one file a source, one registry.

Others import `columns`, `hub`, `labels`, `parts`, `registry`, `source`.
"""
