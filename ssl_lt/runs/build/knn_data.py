"""`--knn-data`: a labelled set that a pretraining is measured on between epochs."""

from __future__ import annotations

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.dataset import Data, open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.data.sources.columns import NO_LABELS

_WITH_COLUMNS = ("csv", "hf", "wds")


def open_knn_data(source: str, data: Data) -> Data:
    """The labelled set, seen as the network sees what it trains on.

    Args:
        source: as for `--data`; columns of the same kind of source are those of the run.
        data: of the run.

    Raises:
        ConfigError: it has no labels.
        DataError: it is not there, or holds nothing to judge.
    """
    options, spec = data.options, data.spec
    kind, own, _ = source.partition(":")
    columns = kind in _WITH_COLUMNS and kind == options.data.partition(":")[0]
    label_column = None if options.label_column == NO_LABELS else options.label_column
    judged = open_data(
        DataOptions(
            data=source,
            image_column=options.image_column if columns else None,
            label_column=label_column if columns else None,
            value_range=options.value_range if own else (),
            max_image_mpix=options.max_image_mpix if own else None,
            data_root=options.data_root,
            download=options.download,
            shard_cache=options.shard_cache,
            shard_cache_mib=options.shard_cache_mib,
            image_size=spec.size,
            mean=spec.mean,
            std=spec.std,
            interpolation=spec.interpolation,
            crop_pct=spec.crop,
            num_workers=options.num_workers,
            worker_timeout=options.worker_timeout,
            cache_mib=options.cache_mib,
            bad_images=options.bad_images,
            max_bad_images=options.max_bad_images,
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
