"""The typed configurations of `ssl-lt predict` and `ssl-lt embed`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Flat, option, section
from ssl_lt.evaluate.view_ensemble import Ensemble
from ssl_lt.runs.inference.images import ImageOptions

AS_TRAINED, UNIFORM, TRAIN = "as-trained", "uniform", "train"


@dataclass(frozen=True)
class PredictConfig:
    """Classify images with a trained network: ssl-lt predict RUN SOURCE [flags].

    Writes a table with a row an image: file, class, probability, and the group of the class. A
    table that was left unfinished goes on where it was. Needs none of the data of training.
    """

    run: str = option("auto", group="network")
    """A fine-tuned run, a folder that ssl-lt export wrote, or a file of it (.safetensors, .onnx).
    auto: the newest run under runs/."""
    images: Flat[ImageOptions] = section("images", ImageOptions)
    output: Path = option(Path("predictions.csv"), group="output")
    """Table to write: .csv or .parquet."""
    top_k: int = option(1, group="output")
    """Number of classes an image, the likeliest first; those behind the first have columns of their
    own."""
    prior: str = option(AS_TRAINED, group="probabilities")
    """Prior of the classes that probabilities are for: as-trained (what the loss of training makes
    of it: uniform after logit adjustment, that of the training images after cross-entropy),
    uniform, train, or a csv file with class,count or class,prior."""
    ensemble: Ensemble = option("none", group="probabilities")
    """Average the logits over views of each image: flip (two) or five-crops."""
    calibrate: bool = option(default=True, group="probabilities")
    """Divide logits by the temperature that was fitted when training ended, on its validation
    images."""
    calibrate_on: str | None = option(None, group="probabilities")
    """Fit the temperature on these labelled images (same syntax as --data) instead."""

    def __post_init__(self) -> None:
        check_at_least(self, {"top_k": 1})
        if self.calibrate_on is not None and not self.calibrate:
            raise ConfigError("--calibrate-on: has no effect with --no-calibrate")


@dataclass(frozen=True)
class EmbedConfig:
    """Features of images, and their neighbours: ssl-lt embed RUN_OR_WEIGHTS SOURCE [flags].

    Writes (N, D) features and an index with the file and the SHA-256 of each. A table that was left
    unfinished goes on where it was.
    """

    init_from: str = option("auto", group="network")
    """A run, an exported folder or a file of it, a file of weights (with --backbone), or released
    weights: timm:NAME, hf-hub:ORG/NAME, local-dir:PATH. auto: the newest run under runs/."""
    backbone: str | None = option(None, group="network")
    """The network that a file of weights is of."""
    images: Flat[ImageOptions] = section("images", ImageOptions)
    output: Path = option(Path("features.npy"), group="output")
    """Features to write: .npy, with the index beside it in .csv, or .parquet with both."""
    normalise: bool = option(default=False, group="output")
    """Scale each feature vector to length 1."""
    neighbours: int = option(0, group="neighbours")
    """Also list the N most similar images of each, by the cosine of their features, in
    OUTPUT.neighbours.csv (0 = off)."""
    against: Path | None = option(None, group="neighbours")
    """Search in this table, which embed has written, instead of among the images themselves."""
    near_duplicate: float = option(0.95, group="neighbours")
    """Cosine from which an image is marked as a near-duplicate of another."""

    def __post_init__(self) -> None:
        check_at_least(self, {"neighbours": 0})
        check_range(self, {"near_duplicate": "[-1, 1]"})
        if self.against is not None and not self.neighbours:
            raise ConfigError("--against: has no effect without --neighbours")
