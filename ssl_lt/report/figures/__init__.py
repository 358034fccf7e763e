"""Figures for the pages."""
