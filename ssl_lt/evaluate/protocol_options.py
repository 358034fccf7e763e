"""The flags that say how a frozen backbone is judged: kNN votes, probes, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ssl_lt.core.errors import ConfigError
from ssl_lt.evaluate.neighbours.knn import Vote

Probe = Literal["lbfgs", "sdclr", "bcl"]
Labels = Literal["all", "long-tail", "long-tail-adjusted"]


@dataclass(frozen=True)
class ProtocolOptions:
    """How kNN votes, and how and on which labels linear probes are fitted."""

    knn_k: tuple[int, ...] = ()
    """Neighbours that vote; several: the best on validation images, or else on held-out training
    images; none: 20, or all of a smaller training set."""
    knn_temperature: float = 0.07
    """A neighbour at cosine similarity s votes with exp(s / temperature)."""
    knn_vote: tuple[Vote, ...] = ("weighted",)
    """weighted: by similarity; plain: one vote each; balanced: by similarity, divided by the
    training images of the neighbour's class. Several are reported side by side."""
    probe: tuple[Probe, ...] = ("lbfgs",)
    """lbfgs: solved to convergence, L2 strength chosen on validation images, or else on held-out
    training images; sdclr, bcl: as the released code of those papers trains it, to compare with
    their tables."""
    probe_on: tuple[Labels, ...] = ("all", "long-tail")
    """Training labels of the linear probe: all of the data set's (the field's protocol for
    representations), or those of the long-tailed subset (what one has in practice), plain or with
    logits adjusted by the class shares (lbfgs alone); no value: no such probe."""
    shots: tuple[int, ...] = ()
    """Also probe with so many labels of each class, drawn from the whole training set."""
    fraction: tuple[float, ...] = ()
    """Also probe with this share of the whole training set, the same number of each class."""
    draws: int = 5
    """Draws of --shots and --fraction; mean and standard deviation are reported."""

    def __post_init__(self) -> None:
        if min(self.knn_k, default=1) < 1:
            raise ConfigError(f"--knn-k: {min(self.knn_k)}, but at least 1 neighbour is needed")
        if not self.knn_temperature > 0:
            raise ConfigError(f"--knn-temperature: {self.knn_temperature}, but it must be above 0")
        if "long-tail-adjusted" in self.probe_on and "lbfgs" not in self.probe:
            raise ConfigError("--probe-on: long-tail-adjusted needs --probe lbfgs")
        if min(self.shots, default=2) < 2:
            raise ConfigError(
                f"--shots: {min(self.shots)}, but of each class one image is fitted to and one "
                "chosen on"
            )
        if not all(0 < fraction < 1 for fraction in self.fraction):
            raise ConfigError(f"--fraction: one of {self.fraction} is not between 0 and 1")
        if self.draws < 1:
            raise ConfigError(f"--draws: {self.draws}, but at least 1 is needed")
        self._check_repeats()

    def _check_repeats(self) -> None:
        for flag in ("knn_vote", "probe", "probe_on", "shots", "fraction"):
            values = getattr(self, flag)
            if len(set(values)) < len(values):
                words = " ".join(map(str, values))
                raise ConfigError(f"--{flag.replace('_', '-')}: {words} names one twice")
