"""From a configuration to networks and tasks."""
