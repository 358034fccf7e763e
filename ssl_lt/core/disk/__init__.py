"""Files and folders that are whole or absent, paths and URLs, text, dataclasses as plain JSON.

Others import `files`, `folders`, `plain`, `text`, `urls`, `yaml_file`.
"""
