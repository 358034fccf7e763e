"""What every run goes through: find or make its folder, start, record.

Others import `extension`, `failure`, `find`, `init_from`, `place`, `processes`, `result`,
`same_run`, `saved_run`, `scores`, `start`, `starts`, `training`.
"""
