"""Words and YAML files into the typed configuration, and how a command ends.

Others import `main`.
"""
