"""Results as JSON, tables, figures and a page."""
