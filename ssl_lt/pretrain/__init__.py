"""Methods that learn from two views of an image, without labels."""
