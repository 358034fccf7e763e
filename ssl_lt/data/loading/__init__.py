"""Who gets which image when: the order of an epoch, and the loaders that follow it."""
