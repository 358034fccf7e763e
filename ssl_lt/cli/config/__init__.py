"""From words and YAML to the typed configuration."""
