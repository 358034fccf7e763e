"""From words and YAML to the typed configuration.

Others import `command_line`, `judged`.
"""
