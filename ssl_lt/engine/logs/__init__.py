"""metrics.jsonl, timing.jsonl and the progress bar."""
