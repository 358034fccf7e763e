"""Training a classifier with a contrast by sub-classes, which are found anew on the way: SBCL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.processes.distributed import from_first_rank, gather_rows
from ssl_lt.core.random import seed_of
from ssl_lt.core.types import Epoch
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.contrast_task import ContrastTask, build_contrast
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.logit_adjustment import LogitAdjustment
from ssl_lt.losses.subclass_contrastive import (
    SubClassContrastiveOptions,
    ranked_contrastive,
    temperatures_by_density,
    two_level_contrastive,
)
from ssl_lt.losses.subclasses import cluster_classes, parents_of, sub_class_counts
from ssl_lt.losses.supervised_contrastive import SupervisedContrast

_KMEANS_ITERATIONS = 35


class SubClassTask(ContrastTask):
    """`lambda * LA(tau) + mu * SBCL`, after some epochs with the supervised contrast in its place.

    The paper (arXiv:2306.15925) learns by the contrast alone and trains a linear classifier
    (LDAM-DRW) on it afterwards; here both are trained at once, as with the other contrasts. The
    released code clusters projections of augmented pictures by cosine k-means, whose centres are
    put back on the sphere; we take the pictures as they are, and centres within the sphere.

    Args:
        parts: networks, views, counts and where features come from.
        options: of the loss.

    Raises:
        ConfigError: a class has no images.
    """

    sub_classes_per_class: Tensor
    parents: Tensor

    def __init__(self, parts: FinetuneModules, options: SubClassContrastiveOptions) -> None:
        counts = parts.counts_per_class
        contrast = build_contrast(SupervisedContrast(counts, options), parts, options)
        super().__init__(parts, LogitAdjustment(counts, options), contrast)
        self.options, self.train_features = options, parts.train_features
        self.has_sub_classes = False
        per_class = sub_class_counts(counts, smallest=options.smallest_sub_class)
        self.register_buffer("sub_classes_per_class", per_class, persistent=False)
        self.register_buffer("parents", parents_of(per_class), persistent=False)
        self.memory = SampleMemory(
            "sub_classes",
            {
                "labels": torch.zeros(int(counts.sum()), dtype=torch.int64),
                "temperatures": torch.full((len(counts),), options.temperature),
                # At whose start they were found; -1: not yet.
                "epoch": torch.tensor(-1),
            },
        )

    def contrast(self, rows: LabelledRows, prototypes: Tensor | None, index: Tensor) -> Tensor:
        """(2B,) losses of both views of the samples `index` (B,)."""
        if not self.has_sub_classes:
            return super().contrast(rows, prototypes, index)
        options, tables = self.options, self.memory.tables
        labels = tables["labels"][index]
        rows = replace(rows, labels=labels.repeat(2), key_labels=gather_rows(labels).repeat(2))
        if options.form == "ccl":
            return two_level_contrastive(
                rows,
                self.parents,
                temperature=options.temperature,
                class_weight=options.class_weight,
            )
        # Keys are view 1 of all samples, then view 2.
        num_keys = len(rows.keys)
        return ranked_contrastive(
            rows,
            (rows.own + num_keys // 2) % num_keys,
            self.parents,
            tables["temperatures"],
            temperature=options.temperature,
            class_weight=options.class_weight,
        )

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Finds the sub-classes where it is time; upon resume within the epoch they are there."""
        super().on_epoch_start(epoch)
        since = epoch.number - self.options.cluster_after
        self.has_sub_classes = since >= 0
        is_due = self.has_sub_classes and since % self.options.recluster_every == 0
        if is_due and int(self.memory.tables["epoch"]) != epoch.number:
            self.find_sub_classes(epoch)

    def find_sub_classes(self, epoch: Epoch) -> None:
        """Clusters each class's projections on the unit sphere."""
        tables = self.memory.tables
        device = tables["labels"].device
        features, labels = self.train_features(nn.Sequential(self.backbone, self.head))
        features, labels = F.normalize(features.to(device), dim=1), labels.to(device)

        def sub_labels() -> Tensor:
            return cluster_classes(
                features,
                labels,
                self.sub_classes_per_class,
                seed=seed_of(self.seed, epoch.number),
                iterations=_KMEANS_ITERATIONS,
            ).labels

        temperatures = temperatures_by_density(
            features, labels, self.sub_classes_per_class, temperature=self.options.temperature
        )
        tables["labels"].copy_(from_first_rank(sub_labels, like=labels))
        tables["temperatures"].copy_(temperatures)
        tables["epoch"].fill_(epoch.number)

    def memories(self) -> Sequence[SampleMemory]:
        """The sub-classes in use, and what is known of the classes."""
        return (*super().memories(), self.memory)
