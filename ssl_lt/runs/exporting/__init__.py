"""What an export is made of beside its files of weights: networks, model card, and a hub for it.

Others import `card`, `network`, `push`.
"""
