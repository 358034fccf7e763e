"""Several classifiers that share a backbone: RIDE and ACE."""
