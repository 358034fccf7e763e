"""The pages, in HTML without network.

Others import `card`, `inspection`, `page`, `tail`, `templates`.
"""
