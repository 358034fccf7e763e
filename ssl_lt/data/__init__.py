"""Image collections, long-tailed subsets of them, and the batches made from them.

Others import `dataset`, `long_tail`, `options`, `validation`.
"""
