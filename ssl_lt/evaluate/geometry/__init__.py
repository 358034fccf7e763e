"""How features lie in their space: spread, alignment, uniformity, collapse."""
