"""The colours of pages and figures, on light and on dark paper; `page.css` has their names."""

from __future__ import annotations

_COLOURS = {
    "paper": ("#fdfdfb", "#15171a"),
    "ink": ("#23262b", "#e3e5e8"),
    "soft": ("#626871", "#9aa1ab"),
    "rule": ("#c9ccd1", "#4a4f57"),
    "hair": ("#e7e8ea", "#2a2d32"),
    "shade": ("#f0f1f2", "#1f2226"),
    "warm": ("#fbf3e2", "#2b2516"),
    "warm-edge": ("#d9a521", "#b98d1c"),
    "series-1": ("#0072b2", "#58b1ea"),
    "series-2": ("#d55e00", "#f58b45"),
    "series-3": ("#00835f", "#35c79b"),
    "series-4": ("#b0578d", "#e29ac4"),
    "series-5": ("#9a6b00", "#e3bc4d"),
    "series-6": ("#2f93cc", "#9ccff2"),
}
LIGHT, DARK = ({name: pair[i] for name, pair in _COLOURS.items()} for i in (0, 1))
