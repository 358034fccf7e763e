"""The typed configuration of `evaluate.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.options import Effect, Flat, option, section
from ssl_lt.data.options import DataOptions
from ssl_lt.evaluate.protocol_options import ProtocolOptions
from ssl_lt.evaluate.view_ensemble import Ensemble
from ssl_lt.models.options import ModelOptions
from ssl_lt.runs.config.schema import flags

WEIGHTS = "--data or --init-from"
# Options of the data by which a machine reads a run's images, and on which no accuracy depends.
READING = (
    "cache_mib", "download", "max_image_mpix", "shard_cache", "shard_cache_mib", "worker_timeout",
)  # fmt: skip


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a run, or released weights, on the balanced test split, and make a report.

    Of every backbone kNN, the nearest class mean and linear probes; of a fine-tuned run also its
    own classifier.
    """

    run: str = option("auto", effect=Effect.START, group="what is judged")
    """Folder of the run, or auto: the newest one under runs/. With --data it is judged on that data
    instead of its own, or on its own where that has moved to."""
    init_from: str | None = option(None, group="what is judged")
    """Judge these weights on --data, without a run: timm:NAME, hf-hub:ORG/NAME, local-dir:PATH, an
    exported folder, a file (with --backbone) or a run."""
    run_dir: Path | None = option(None, effect=Effect.START, group="what is judged")
    """Folder for the results of --init-from or --data. Default: runs/evaluate-..."""
    data: Flat[DataOptions] = section("data", DataOptions)
    model: Flat[ModelOptions] = section("network", ModelOptions)
    protocols: Flat[ProtocolOptions] = field(default_factory=ProtocolOptions)
    ensemble: Ensemble = option("none", group="classifier")
    """Also judge a fine-tuned run by the mean over views of each test image: flip (two) or
    five-crops."""
    random_init: bool = False
    """Also judge the same backbone with its initial, untrained weights."""
    map_images: int = 2000
    """Test images on the page's map of features (t-SNE, ten seconds of one core); 0: no map."""
    batch_size: int = 512
    """Images a forward pass."""
    verbose: bool = False
    """Print every summary table of the page, not the accuracies alone."""

    def __post_init__(self) -> None:
        check_at_least(self, {"map_images": 0, "batch_size": 1})

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        found = self.protocols.without_effect()
        if self.init_from is not None:
            return found | {"ensemble": "a fine-tuned --run, which has a classifier"}
        return found | {"run-dir": WEIGHTS, **unused_without_weights(self)}


def unused_without_weights(config: Any) -> dict[str, str]:
    """Flags that say which data and network weights without a run go with.

    Args:
        config: with options `data` and `model`.
    """
    free = {"data", "data-root", "num-workers", *(name.replace("_", "-") for name in READING)}
    found = [flag.name for options in (config.data, config.model) for flag in flags(options)]
    return {name: WEIGHTS for name in found if name not in free}
