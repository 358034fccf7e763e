"""Files and folders that are whole or absent, paths and URLs, dataclasses as plain JSON.

Others import `files`, `folders`, `plain`, `urls`, `yaml_file`.
"""
