"""metrics.jsonl and timing.jsonl, for the loop.

Others import `metrics`.
"""
