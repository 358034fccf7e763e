"""Tables of numbers and their text, Markdown, LaTeX and CSV.

Others import `classes`, `comparison`, `export`, `inspection`, `intervals`, `neighbours`, `seeds`,
`start`, `summary`, `table`, `tail`.
"""
