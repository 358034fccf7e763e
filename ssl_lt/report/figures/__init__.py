"""Figures for the pages.

Others import `confusion`, `figure`, `gallery`, `plots`, `starts`.
"""
