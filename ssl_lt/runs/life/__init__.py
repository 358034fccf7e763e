"""What every run goes through: find or make its folder, start, record.

Others import `failure`, `find`, `init_from`, `processes`, `result`, `same_run`, `saved_run`,
`scores`, `start`, `starts`, `training`.
"""
