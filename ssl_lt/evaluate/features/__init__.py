"""Features of a frozen network.

Others import `embed`, `feature_map`, `features`, `running_statistics`.
"""
