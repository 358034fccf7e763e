"""What every fine-tuning task is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ssl_lt.augment.mixing import Mixer
from ssl_lt.core.types import View


@dataclass(frozen=True)
class FinetuneModules:
    """Networks, views and facts about the data, built outside the task.

    Attributes:
        backbone: (B, 3, S, S) -> (B, D).
        num_features: D.
        classifier: (B, D) -> (B, C); its `weight` is (C, D), one row a class.
        view: of the images that are classified.
        contrastive_view: of the two other views; None where the loss has none.
        counts_per_class: (C,) int64 training images of each class.
        tune: which of the backbone's weights train, which has been seen to: a kind of `--tune`.
            With any but "all" it keeps its running statistics.
        train_features: network -> (N, D) float32 features of the training images, not augmented
            and in evaluation mode, and their (N,) labels; every rank gets all rows. N is the order
            of `Batch.index`. It takes a pass over the data, so tasks call it between epochs.
        held_out_accuracy: network that ends in logits -> (C,) accuracy on training images that
            are held out, NaN of classes without any; None: there are none. Takes a pass over them,
            like `train_features`.
        mixer: of the classified images; None: they are not mixed.
        seed: of the run.
        keeps_statistics: batch norms do not learn those of the batches, where `tune` is "all".
    """

    backbone: nn.Module
    num_features: int
    classifier: nn.Module
    view: View
    contrastive_view: View | None
    counts_per_class: Tensor
    tune: str
    train_features: Callable[[nn.Module], tuple[Tensor, Tensor]]
    seed: int
    keeps_statistics: bool = False
    held_out_accuracy: Callable[[nn.Module], Tensor] | None = None
    mixer: Mixer | None = None
