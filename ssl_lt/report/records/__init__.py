"""What is stored: results.json, curves, pictures.

Others import `class_order`, `curves`, `results`.
"""
