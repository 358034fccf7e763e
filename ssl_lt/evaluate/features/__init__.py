"""Features of a frozen network."""
