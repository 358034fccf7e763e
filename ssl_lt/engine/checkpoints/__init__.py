"""Run folders, their lock, and training states that are whole or invisible.

Others import `checkpoint`, `chosen`, `lock`, `run_folder`, `state`.
"""
