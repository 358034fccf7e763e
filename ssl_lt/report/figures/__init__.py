"""Figures for the pages, and as files beside them.

Others import `colours`, `confusion`, `figure`, `files`, `gallery`, `plots`, `starts`.
"""
