"""Tables of numbers and their text, Markdown, LaTeX and CSV."""
