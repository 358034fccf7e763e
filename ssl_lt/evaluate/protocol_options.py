"""Options of evaluation on frozen features: kNN votes, linear probes, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.evaluate.neighbours.knn import KNNOptions, Vote

Probe = Literal["lbfgs", "sdclr", "bcl"]
Labels = Literal["all", "long-tail", "long-tail-adjusted"]


@dataclass(frozen=True)
class ProtocolOptions:
    """How kNN votes, and how and on which labels linear probes are fitted."""

    knn_k: tuple[int, ...] = option((), group="kNN")
    """Number of neighbours that vote. Of several, the best on the validation images is taken, or on
    held-out training images if there are none. Default: 20, at most the training set."""
    knn_vote: tuple[Vote, ...] = option(("weighted",), group="kNN")
    """How neighbours vote: by similarity (weighted), one vote each (plain), or by similarity over
    the number of training images of their class (balanced). Several are reported side by side."""
    knn_temperature: float = option(0.07, page="all", group="kNN")
    """Temperature of the vote: a neighbour at cosine similarity s has exp(s / temperature)."""
    probe: tuple[Probe, ...] = option(("lbfgs",), group="linear probe")
    """How the linear probe is trained: to convergence, with L2 chosen on validation or held-out
    images (lbfgs), or as the code of the SDCLR or the BCL paper trains it, to compare with their
    tables (sdclr, bcl). No value: no probe."""
    probe_on: tuple[Labels, ...] = option(("all", "long-tail"), group="linear probe")
    """Training labels of the probe: those of the whole training set (all, the field's protocol),
    those of the long-tailed subset (long-tail), or these with the logits adjusted by the class
    shares (long-tail-adjusted, lbfgs alone). No value: --shots and --fraction alone."""
    shots: tuple[int, ...] = option((), group="linear probe")
    """Labelled images per class of further probes, drawn from the whole training set. Default: no
    such probe."""
    fraction: tuple[float, ...] = option((), page="all", group="linear probe")
    """Labelled share, in (0, 1), of the whole training set, for further probes with the same number
    of images of each class. Default: no such probe."""
    draws: int = option(5, page="all", group="linear probe")
    """Number of draws of --shots and --fraction. Mean and standard deviation are reported."""

    def __post_init__(self) -> None:
        KNNOptions(min(self.knn_k, default=1), self.knn_temperature)  # checks both
        if "long-tail-adjusted" in self.probe_on and "lbfgs" not in self.probe:
            raise ConfigError("--probe-on: long-tail-adjusted needs --probe lbfgs")
        if min(self.shots, default=2) < 2:
            raise ConfigError(
                f"--shots: {min(self.shots)}, but a class needs one image to fit and one to choose"
            )
        if not all(0 < fraction < 1 for fraction in self.fraction):
            raise ConfigError(f"--fraction: one of {self.fraction} is not between 0 and 1")
        if self.draws < 1:
            raise ConfigError(f"--draws: {self.draws}, but at least 1 is needed")
        for flag in ("knn_vote", "probe", "probe_on", "shots", "fraction"):
            values = getattr(self, flag)
            if len(set(values)) < len(values):
                words = " ".join(map(str, values))
                raise ConfigError(f"--{flag.replace('_', '-')}: {words} names one twice")

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        if not self.probe:
            return dict.fromkeys(("probe-on", "shots", "fraction", "draws"), "--probe")
        return {} if self.shots or self.fraction else {"draws": "--shots or --fraction"}
