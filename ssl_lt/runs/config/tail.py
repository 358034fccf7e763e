"""The typed configuration of `ssl-lt tail`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.options import Effect, Flat, option, section
from ssl_lt.data.options import DataOptions
from ssl_lt.models.options import ModelOptions
from ssl_lt.runs.config.evaluate import unused_without_weights

ScoreName = Literal["density", "cluster", "tailness", "memorisation", "disagreement"]


@dataclass(frozen=True)
class TailConfig:
    """Find training images that look rare, without their labels, and draw which to label first.

    Writes a list of all images (tail.csv, the rarest first) and a page with both of its ends;
    with --budget also the images to label (budget.csv). Where classes are known, it says how well
    that finds the rare ones.
    """

    run: str = option("auto", effect=Effect.START, group="whose features")
    """Folder of a run, or auto: the newest one under runs/. With --data its features of that data
    are taken instead of its own data."""
    init_from: str | None = option(None, group="whose features")
    """Take the features of these weights on --data, without a run: timm:NAME, hf-hub:ORG/NAME,
    local-dir:PATH, an exported folder, a file (with --backbone) or a run."""
    score: ScoreName = option("density", group="score")
    """density: mean cosine distance to the nearest images; cluster: small k-means clusters;
    tailness: that of COLT; memorisation: loss that --plugins bcl has kept; disagreement: with the
    pruned network, which --method sdclr has kept, otherwise measured."""
    knn_k: int = option(100, group="score")
    """Number of nearest images of --score density, at most all others."""
    prune_ratio: float = option(0.3, page="all", group="score")
    """Share of the weights that are pruned for --score disagreement where the run has kept none."""
    budget: int | None = option(None, group="labelling")
    """Number of images to draw for labelling: rare ones from all over the features."""
    seed: int = option(0, page="all", group="labelling")
    """Seed of the image that --budget begins with."""
    top: int = option(64, group="output")
    """Images shown of each end of the list; also the k of the precision."""
    output: Path | None = option(None, group="output")
    """Folder to write. Default: tail/ in the run's folder, runs/tail-... for --init-from."""
    batch_size: int = option(512, page="all", group="output")
    """Images a forward pass."""
    data: Flat[DataOptions] = section("data", DataOptions)
    model: Flat[ModelOptions] = section("network", ModelOptions)

    def __post_init__(self) -> None:
        check_at_least(self, {"knn_k": 1, "budget": 1, "seed": 0, "top": 1, "batch_size": 1})
        check_range(self, {"prune_ratio": "(0, 1)"})

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        unused = {} if self.init_from is not None else unused_without_weights(self)
        if self.score != "density":
            unused["knn-k"] = "--score density"
        if self.score != "disagreement":
            unused["prune-ratio"] = "--score disagreement"
        return unused if self.budget is not None else {**unused, "seed": "--budget"}
