"""The keywords of `ssl_lt.predict` and `embed`, as `ssl_lt/keywords.py` has those of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from ssl_lt.keywords import Place


class ImageKeywords(TypedDict, total=False):
    """Of both."""

    # files
    config: Place | Sequence[Place] | None
    # images
    data: str
    part: Literal["auto", "train", "validation", "test"]
    data_root: Place | None
    download: bool
    image_column: str | None
    label_column: str | None
    split_column: str | None
    crop_boxes: bool
    crop_margin: float
    value_range: Sequence[float]
    max_image_mpix: int | None
    shard_cache: Place | None
    batch_size: int
    num_workers: int
    worker_timeout: int
    # output
    output: Place


class PredictKeywords(ImageKeywords, total=False):
    """Of `predict`."""

    # network
    run: Place
    # output
    top_k: int
    # probabilities
    prior: Place
    ensemble: Literal["none", "flip", "five-crops"]
    calibrate: bool
    calibrate_on: str | None


class EmbedKeywords(ImageKeywords, total=False):
    """Of `embed`."""

    # neighbours
    neighbours: int
    against: Place | None
    near_duplicate: float
    # network
    init_from: Place
    backbone: str | None
    # output
    normalise: bool
