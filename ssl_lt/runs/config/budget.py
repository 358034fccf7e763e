"""`--budget`: how long a training may take, and the recipe that is best known for it."""

from __future__ import annotations

import re
from typing import Any, Literal

from ssl_lt.core.errors import ConfigError

Start = Literal["scratch", "run", "released"]

_SECONDS = {"min": 60, "h": 3600}
# The papers' length from scratch; from weights, a few times what was found to be enough. What a
# budget has left over is not used up.
MOST_EPOCHS: dict[Start, int] = {"scratch": 200, "run": 30, "released": 20}
# Strong augmentation belongs to long trainings, such as the papers' 200 epochs.
_AUTOAUGMENT_FROM = 100


def budget_seconds(text: str) -> float:
    """Seconds of what `--budget` says, such as 10min or 2h.

    Raises:
        ConfigError: it is no time, or less than a minute.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(min|h)", text)
    if found is None:
        raise ConfigError(f"--budget: {text} is no time: such as 10min or 2h")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds < 60:
        raise ConfigError(f"--budget: {text} is less than a minute")
    return seconds


def recipe(start: Start, *, epochs: int, is_small: bool) -> dict[str, Any]:
    """Flag -> value, for what was not asked for; anything else has the defaults of the start.

    Args:
        start: what the backbone starts from.
        epochs: that the budget is enough for.
        is_small: the images are of the size of CIFAR's.
    """
    if start == "run":
        return {"ema": 0.998}
    if start == "released":
        return {"ema": 0.998, "warmup-epochs": 0.5}
    augment = "autoaugment" if epochs >= _AUTOAUGMENT_FROM else "weak"
    found: dict[str, Any] = {"augment": augment, "nesterov": True}
    if not is_small:
        return found | {"ema": 0.998}
    # As in recipes/finetune/fast.yaml.
    return found | {"backbone": "convnet7_cifar", "decay": "weights"}
