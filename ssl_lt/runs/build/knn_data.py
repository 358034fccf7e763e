"""`--knn-data`: a labelled set that a pretraining is measured on between epochs."""

from __future__ import annotations

from dataclasses import replace

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.dataset import Data, open_data
from ssl_lt.data.options import for_other_images


def open_knn_data(source: str, data: Data) -> Data:
    """The labelled set, seen as the network sees what it trains on.

    Args:
        source: as for `--data`; columns of the same kind of source are those of the run.
        data: of the run.

    Raises:
        ConfigError: it has no labels.
        DataError: it is not there, or holds nothing to judge.
    """
    spec = data.spec
    judged = open_data(
        replace(
            for_other_images(data.options, source),
            split_column=None,
            group_column=None,
            group_pattern=None,
            image_size=spec.size,
            mean=spec.mean,
            std=spec.std,
            interpolation=spec.interpolation,
            crop_pct=spec.crop,
        )
    )
    if not judged.num_classes:
        hint = f": {judged.source.labels_from}" if judged.source.labels_from else ""
        raise ConfigError(f"--knn-data: {judged.source.name} has no labels{hint}")
    if judged.monitor_set() is None:
        raise DataError(
            f"--knn-data: {judged.source.name} has neither test nor validation images, and no "
            "class has two images of which one could be judged"
        )
    return judged
