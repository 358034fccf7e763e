"""Run folders, their lock, and training states that are whole or invisible."""
