"""Run folders, their lock, and training states that are whole or invisible.

Others import `checkpoint`, `lock`, `run_folder`, `state`.
"""
