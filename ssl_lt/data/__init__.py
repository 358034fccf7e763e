"""Image collections, long-tailed subsets of them, and the batches made from them."""
