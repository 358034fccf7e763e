"""K nearest neighbours by exact search.

Others import `knn`, `knn_sweep`, `search`.
"""
