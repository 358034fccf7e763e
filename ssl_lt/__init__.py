"""Learning from long-tailed image collections: first without labels, then with them."""

__version__ = "0.1.0"
