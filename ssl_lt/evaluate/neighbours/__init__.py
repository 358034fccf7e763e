"""K nearest neighbours by exact search."""
