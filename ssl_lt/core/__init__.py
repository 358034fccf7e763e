"""Types, randomness and distribution: what everything else stands on."""
