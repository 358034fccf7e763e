"""What supervised contrast compares: embeddings that know their class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssl_lt.core.processes.distributed import gather_rows, own_rows


@dataclass(frozen=True)
class LabelledRows:
    """Anchors, and the keys each of them is compared with.

    The losses take the rows as they are: whoever makes them normalises them, because feature
    compression then gives some of them other lengths.

    Attributes:
        anchors: (A, D), this rank's.
        labels: (A,) int64 classes of the anchors.
        keys: (K, D), those of all ranks; every anchor is one of them.
        key_labels: (K,) int64 classes of the keys.
        own: (A,) int64, the key that is the anchor itself.
    """

    anchors: Tensor
    labels: Tensor
    keys: Tensor
    key_labels: Tensor
    own: Tensor

    def with_prototypes(self, prototypes: Tensor) -> LabelledRows:
        """The same anchors with one more key for each class: (C, D) prototypes, row j of class j.

        Prototypes are keys only. They stand behind the others, so `own` stays what it is.
        """
        classes = torch.arange(len(prototypes), device=self.key_labels.device)
        return replace(
            self,
            keys=torch.cat([self.keys, prototypes]),
            key_labels=torch.cat([self.key_labels, classes]),
        )

    def same_class(self) -> Tensor:
        """(A, K) bool: which keys are of the anchor's class, the anchor itself among them."""
        return self.labels[:, None] == self.key_labels


def labelled_rows(embeddings: Tensor, labels: Tensor) -> LabelledRows:
    """Rows that are compared with each other: anchors are the keys.

    Args:
        embeddings: (A, D), all views of all samples.
        labels: (A,) int64.
    """
    own = torch.arange(len(labels), device=labels.device)
    return LabelledRows(embeddings, labels, embeddings, labels, own)


def gathered_rows(embeddings: Tensor, labels: Tensor) -> LabelledRows:
    """Both views of this rank's samples against both views of all ranks' samples.

    Args:
        embeddings: (2B, P), view 1 of all samples, then view 2.
        labels: (B,).
    """
    num_samples = len(labels)
    both = gather_rows(torch.cat(embeddings.chunk(2), dim=1))
    key_labels = gather_rows(labels)
    own = own_rows(num_samples, device=labels.device)
    return LabelledRows(
        anchors=embeddings,
        labels=labels.repeat(2),
        keys=torch.cat(both.chunk(2, dim=1)),
        key_labels=key_labels.repeat(2),
        own=torch.cat([own, own + len(key_labels)]),
    )
