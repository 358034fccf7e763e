"""The check between epochs of pretraining: do the features spread, and what is kNN's accuracy?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from ssl_lt.core.precision import Precision
from ssl_lt.data.dataset import Data
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.geometry.collapse import measure_spread
from ssl_lt.evaluate.neighbours.knn import KNNOptions, knn_predict
from ssl_lt.evaluate.scores.accuracy import accuracy

_MAX_UNLABELLED = 2048  # images whose features are computed for nothing else


class Monitor:
    """The spread of the features, and their kNN accuracy if there are labels.

    Accuracy is measured on the validation images, or on the test split if there are none. Nothing
    is selected by it.

    Args:
        data: what is trained on.
        precision: of the training.
        warn: takes one line, on every rank, the first time that the features look collapsed twice
            in a row: after the first epochs those of a sound training often do.
        judged: the set that kNN's accuracy is of; None: `data`.
    """

    def __init__(
        self,
        data: Data,
        precision: Precision,
        *,
        warn: Callable[[str], None],
        judged: Data | None = None,
    ) -> None:
        self.data, self.precision, self.warn = data, precision, warn
        self.judged = data if judged is None else judged
        self.looked_collapsed, self.has_warned = False, False
        self.has_labels = self.judged.num_classes > 0 and int(self.judged.train.labels.min()) >= 0

    def __call__(self, backbone: nn.Module) -> Mapping[str, float]:
        """Numbers for `metrics.jsonl`: feature_std, effective_rank, knn; the same on every rank."""
        trained = self._training_features(backbone)
        spread = measure_spread(trained.features.numpy(), num_classes=self.data.num_classes)
        if spread.warnings and self.looked_collapsed and not self.has_warned:
            self.has_warned = True
            self.warn(f"warning: {' '.join(spread.warnings)}")
        self.looked_collapsed = bool(spread.warnings)
        found = {"feature_std": spread.feature_std, "effective_rank": spread.effective_rank}
        judged = self.judged
        watched = judged.monitor_set() if self.has_labels else None
        if watched is None:
            return found
        bank = trained
        if judged is not self.data:
            bank = embed_dataset(backbone, judged.train, judged, precision=self.precision)
        queries = embed_dataset(backbone, watched, judged, precision=self.precision)
        if not all(rows.features.any(dim=1).all() for rows in (bank, queries)):
            return found  # a feature of zeros has no neighbours, and the warning says so
        num_classes = judged.num_classes
        predictions = knn_predict(
            bank, queries, num_classes=num_classes, options=KNNOptions(k=min(20, len(bank)))
        )
        measured = accuracy(predictions, queries.labels, num_classes=num_classes)
        return {**found, "knn": measured.balanced}

    def _training_features(self, backbone: nn.Module) -> Features:
        table = self.data.train
        if not self.has_labels or self.judged is not self.data:
            number = min(len(table), _MAX_UNLABELLED)
            table = table.take(np.arange(number) * len(table) // number)
        return embed_dataset(backbone, table, self.data, precision=self.precision)
