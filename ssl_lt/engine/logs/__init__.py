"""metrics.jsonl and timing.jsonl, for the loop alone."""
