"""The colours of pages and figures, on light and on dark paper; `page.css` has their names."""

from __future__ import annotations

LIGHT = {
    "paper": "#fdfdfb", "ink": "#23262b", "soft": "#626871", "rule": "#c9ccd1", "hair": "#e7e8ea",
    "shade": "#f0f1f2", "warm": "#fbf3e2", "warm-edge": "#d9a521",
    "series-1": "#0072b2", "series-2": "#d55e00", "series-3": "#00835f",
    "series-4": "#b0578d", "series-5": "#9a6b00", "series-6": "#2f93cc",
}  # fmt: skip
DARK = {
    "paper": "#15171a", "ink": "#e3e5e8", "soft": "#9aa1ab", "rule": "#4a4f57", "hair": "#2a2d32",
    "shade": "#1f2226", "warm": "#2b2516", "warm-edge": "#b98d1c",
    "series-1": "#58b1ea", "series-2": "#f58b45", "series-3": "#35c79b",
    "series-4": "#e29ac4", "series-5": "#e3bc4d", "series-6": "#9ccff2",
}  # fmt: skip
