"""The typed configuration of `ssl-lt retrain`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Flat
from ssl_lt.finetune.retraining.linear import SGDOptions
from ssl_lt.finetune.retraining.registry import RETRAINING, RetrainingOptions
from ssl_lt.runs.config.schema import nearest


@dataclass(frozen=True)
class RetrainConfig:
    """Judge other classifiers on the frozen features of a run: ssl-lt retrain [RUN] [flags].

    Features of the training subset and of the test split are computed once; nothing is augmented.
    What is measured is added to the run's results.json, in place of what has the same name.
    """

    run: str = "auto"
    """Folder of a fine-tuned or pretrained run; auto: the newest one under runs/."""
    classifier: tuple[str, ...] = ("all",)
    """crt, lws, tau, ncm, cog, smote, posthoc, threshold, plugin (two classes), or all that go
    with the run. lws, tau, posthoc, threshold and plugin start from the run's own classifier; of a
    pretrained run, from a plain linear one."""
    held_out: float = 0.2
    """Share of each class's training images that choose the strength of tau, posthoc and threshold,
    where the run has no validation images; each class keeps at least one."""
    costs: Path | None = None
    """Text file for threshold: row k, column j is the cost of taking class k for class j, with
    commas between; none: by the inverse of the class frequencies."""
    seed: int = 0
    """Of held-out images, order, clusters and synthetic features."""
    sgd: Flat[SGDOptions] = field(default_factory=SGDOptions)
    options: Flat[RetrainingOptions] = field(default_factory=RetrainingOptions)
    batch_size: int = 512
    """Images a forward pass."""
    data: str | None = None
    """Where the run's images are now, if they have moved (same syntax as --data of pretrain.py)."""
    data_root: str | None = None
    """Or a folder that they are in now."""
    num_workers: int = 4
    """Processes that decode a folder too large for memory."""

    def __post_init__(self) -> None:
        known = ["all", *RETRAINING]
        for name in self.classifier:
            if name not in known:
                raise ConfigError(f"--classifier: unknown name {name!r}{nearest(name, known)}")
        if not self.classifier:
            raise ConfigError(f"--classifier: none given; there are {', '.join(known)}")
        check_at_least(self, {"seed": 0, "batch_size": 1, "num_workers": 0})
        if not 0 < self.held_out < 1:
            raise ConfigError(f"--held-out: {self.held_out} is not between 0 and 1")

    @property
    def names(self) -> list[str]:
        """Of the classifiers, each once, in the registry's order."""
        return [name for name in RETRAINING if {name, "all"} & {*self.classifier}]
