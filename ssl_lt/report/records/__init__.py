"""What is stored: results.json, curves, pictures."""
