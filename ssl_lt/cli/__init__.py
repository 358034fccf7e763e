"""The typed configuration and the commands."""
