"""What N processes must do to give what one process gives.

Others import `distributed`, `rank_consistency`.
"""
