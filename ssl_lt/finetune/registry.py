"""Losses of `finetune.py --loss` that need a step of their own: one line each.

A loss of logits alone, or a contrast of labelled rows beside one, stands in `losses/registry.py`
and is trained by `ClassifierTask` or `ContrastTask`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssl_lt.finetune.parts import Parts
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.finetune.tasks.elm import ElmOptions, ElmTask
from ssl_lt.finetune.tasks.hybrid import HybridOptions, hybrid_psc, hybrid_sc
from ssl_lt.finetune.tasks.parametric_contrast import gpaco, paco
from ssl_lt.finetune.tasks.robust_task import RobustTask
from ssl_lt.finetune.tasks.sub_class_task import SubClassTask
from ssl_lt.losses.distributional_robustness import DistributionalRobustnessOptions
from ssl_lt.losses.parametric_contrastive import (
    MomentumContrastiveOptions,
    SmoothedContrastiveOptions,
)
from ssl_lt.losses.subclass_contrastive import SubClassContrastiveOptions


@dataclass(frozen=True)
class StepEntry:
    """A loss with a step of its own.

    Attributes:
        build: (parts, options) -> task.
        options: frozen dataclass whose fields become flags.
        description: one line, with the source.
        has_views: two contrastive views beside the classified one, set with `--view.*`.
        is_balanced: it weighs classes by their images, so batches must be sampled uniformly.
    """

    build: Callable[[Parts, Any], ClassifierTask]
    options: type[Any]
    description: str
    has_views: bool = False
    is_balanced: bool = False


STEPS: dict[str, StepEntry] = {
    "elm": StepEntry(
        ElmTask, ElmOptions, "embedding and logit margins (arXiv:2204.13208, our reading)"
    ),
    "paco": StepEntry(
        paco,
        MomentumContrastiveOptions,
        "parametric contrastive learning (arXiv:2107.12028)",
        has_views=True,
    ),
    "gpaco": StepEntry(
        gpaco,
        SmoothedContrastiveOptions,
        "parametric contrast without a momentum encoder (arXiv:2209.12400)",
    ),
    "hybrid_sc": StepEntry(
        hybrid_sc,
        HybridOptions,
        "from supervised contrast to balanced cross-entropy (arXiv:2103.14267)",
        has_views=True,
        is_balanced=True,
    ),
    "hybrid_psc": StepEntry(
        hybrid_psc,
        HybridOptions,
        "from contrast with prototypes to balanced cross-entropy (arXiv:2103.14267)",
        has_views=True,
        is_balanced=True,
    ),
    "dro_lt": StepEntry(
        RobustTask,
        DistributionalRobustnessOptions,
        "features near their class's centroid, whatever shifts it (DRO-LT, arXiv:2104.03066)",
    ),
    "sbcl": StepEntry(
        SubClassTask,
        SubClassContrastiveOptions,
        "contrast by sub-classes that balance the classes (arXiv:2306.15925)",
        has_views=True,
    ),
}
