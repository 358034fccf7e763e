"""The losses that `finetune.py --loss` knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.finetune.tasks.elm import ElmOptions, ElmTask
from ssl_lt.finetune.tasks.hybrid import HybridOptions, hybrid_psc, hybrid_sc
from ssl_lt.finetune.tasks.parametric_contrast import gpaco, paco
from ssl_lt.finetune.tasks.robust_task import RobustTask
from ssl_lt.finetune.tasks.sub_class_task import SubClassTask
from ssl_lt.losses.balanced_contrastive import BalancedContrast, BalancedContrastiveOptions
from ssl_lt.losses.balanced_softmax import BalancedSoftmaxOptions, balanced_softmax
from ssl_lt.losses.class_balanced import (
    ClassBalancedFocalOptions,
    ClassBalancedOptions,
    cb_focal,
    cb_sigmoid,
    cb_softmax,
    one_against_all_bias,
)
from ssl_lt.losses.cross_entropy import CrossEntropy, CrossEntropyOptions
from ssl_lt.losses.distributional_robustness import DistributionalRobustnessOptions
from ssl_lt.losses.focal import Focal, FocalOptions
from ssl_lt.losses.ldam import Ldam, LdamOptions, ldam_hinge_loss
from ssl_lt.losses.logit_adjustment import LogitAdjustment, LogitAdjustmentOptions
from ssl_lt.losses.pairwise_margin import PairwiseMargin, PairwiseMarginOptions
from ssl_lt.losses.parametric_contrastive import (
    MomentumContrastiveOptions,
    SmoothedContrastiveOptions,
)
from ssl_lt.losses.rebalanced_contrastive import (
    BalancedRebalancedOptions,
    RebalancedContrast,
    RebalancedOptions,
    balanced_rebalanced,
)
from ssl_lt.losses.subclass_contrastive import SubClassContrastiveOptions
from ssl_lt.losses.supervised_contrastive import (
    SupervisedContrast,
    SupervisedContrastiveOptions,
)
from ssl_lt.losses.vector_scaling import VectorScaling, VectorScalingOptions

# (counts_per_class (C,), options) -> module.
Build = Callable[[Tensor, Any], nn.Module]


@dataclass(frozen=True)
class LossEntry:
    """What `--loss NAME` trains: a loss of logits, a contrast beside one, or a step of its own.

    Attributes:
        build: the classification: (B, C) logits, (B,) labels -> (B,); None of a loss with a task.
        options: frozen dataclass whose fields become flags; `ContrastOptions` with a contrast. Its
            `check_epochs(epochs)`, where it has one, raises ConfigError for too few.
        description: one line, with the source.
        contrast: the contrast: `LabelledRows`, (C, D) prototypes or None -> (A,); it has
            `uses_prototypes`. None: there is no contrast.
        task: (parts, options) -> a task whose step is more than these two; None: `ClassifierTask`
            or `ContrastTask` trains the loss.
        views: of an image in a step: the classified one, and those beside it that `--view.*` sets.
        mixing: whether the classified images may be mixed: not where the step also compares their
            features by class.
        sampling: "any", or "uniform" where the loss weighs classes by their images itself.
        initial_bias: number of classes -> what the biases of a linear classifier start at. None:
            whatever the classifier has.
        adjustment: share of the log-prior that the loss adds to the logits while it trains, or
            makes up for by weights of its own. None: its option `tau`; 0 without one.
    """

    build: Build | None
    options: type[Any]
    description: str
    contrast: Build | None = None
    task: Callable[[FinetuneModules, Any], ClassifierTask] | None = None
    views: Literal[1, 2, 3] = 1
    mixing: Literal["any", "none"] = "any"
    sampling: Literal["any", "uniform"] = "any"
    initial_bias: Callable[[int], float] | None = None
    adjustment: float | None = None

    @property
    def is_classification(self) -> bool:
        """A loss of logits and nothing beside it."""
        return self.contrast is None and self.task is None


def prior_strength(loss: str, options: Any) -> float:
    """How much of the log-prior a loss adds to the logits while it trains; 0 of a plain one."""
    if (fixed := LOSSES[loss].adjustment) is not None:
        return fixed
    return options.tau if isinstance(options, LogitAdjustmentOptions) else 0.0


LOSSES: dict[str, LossEntry] = {
    "ce": LossEntry(CrossEntropy, CrossEntropyOptions, "cross-entropy"),
    "la": LossEntry(LogitAdjustment, LogitAdjustmentOptions, "logit adjustment (arXiv:2007.07314)"),
    "balanced_softmax": LossEntry(
        balanced_softmax,
        BalancedSoftmaxOptions,
        "balanced softmax (arXiv:2007.10740)",
        adjustment=1.0,
    ),
    "pairwise": LossEntry(
        PairwiseMargin,
        PairwiseMarginOptions,
        "pairwise margins (arXiv:2007.07314, Eq. 11)",
        adjustment=1.0,
    ),
    "vs": LossEntry(
        VectorScaling,
        VectorScalingOptions,
        "vector scaling (arXiv:2103.01550), truncated as in TLA on demand",
    ),
    "focal": LossEntry(Focal, FocalOptions, "focal loss (arXiv:1708.02002)"),
    "cb_softmax": LossEntry(
        cb_softmax, ClassBalancedOptions, "class-balanced cross-entropy (arXiv:1901.05555)"
    ),
    "cb_sigmoid": LossEntry(
        cb_sigmoid,
        ClassBalancedOptions,
        "class-balanced sigmoid loss (arXiv:1901.05555)",
        initial_bias=one_against_all_bias,
    ),
    "cb_focal": LossEntry(
        cb_focal,
        ClassBalancedFocalOptions,
        "class-balanced focal loss (arXiv:1901.05555)",
        initial_bias=one_against_all_bias,
    ),
    "ldam": LossEntry(Ldam, LdamOptions, "LDAM (arXiv:1906.07413); goes with --classifier cosine"),
    "ldam_hinge": LossEntry(ldam_hinge_loss, LdamOptions, "LDAM's hinge loss (arXiv:1906.07413)"),
    "scl": LossEntry(
        LogitAdjustment,
        SupervisedContrastiveOptions,
        "supervised contrast (arXiv:2004.11362) beside logit adjustment",
        contrast=SupervisedContrast,
        views=3,
    ),
    "bcl": LossEntry(
        LogitAdjustment,
        BalancedContrastiveOptions,
        "balanced contrastive learning (CVPR 2022, arXiv:2207.09052)",
        contrast=BalancedContrast,
        views=3,
    ),
    "rcl": LossEntry(
        LogitAdjustment,
        RebalancedOptions,
        "rebalanced contrastive learning (arXiv:2312.01753, Eq. 4)",
        contrast=RebalancedContrast,
        views=3,
    ),
    "bcl_rcl": LossEntry(
        LogitAdjustment,
        BalancedRebalancedOptions,
        "balanced and rebalanced contrast (arXiv:2312.01753, Eq. 5)",
        contrast=balanced_rebalanced,
        views=3,
    ),
    "elm": LossEntry(
        None,
        ElmOptions,
        "embedding and logit margins (arXiv:2204.13208, our reading)",
        task=ElmTask,
        mixing="none",
    ),
    "paco": LossEntry(
        None,
        MomentumContrastiveOptions,
        "parametric contrastive learning (arXiv:2107.12028)",
        task=paco,
        views=2,
        mixing="none",
        adjustment=1.0,
    ),
    "gpaco": LossEntry(
        None,
        SmoothedContrastiveOptions,
        "parametric contrast without a momentum encoder (arXiv:2209.12400)",
        task=gpaco,
        mixing="none",
        adjustment=1.0,
    ),
    "hybrid_sc": LossEntry(
        None,
        HybridOptions,
        "from supervised contrast to balanced cross-entropy (arXiv:2103.14267)",
        task=hybrid_sc,
        views=3,
        sampling="uniform",
        adjustment=1.0,
    ),
    "hybrid_psc": LossEntry(
        None,
        HybridOptions,
        "from contrast with prototypes to balanced cross-entropy (arXiv:2103.14267)",
        task=hybrid_psc,
        views=3,
        sampling="uniform",
        adjustment=1.0,
    ),
    "dro_lt": LossEntry(
        None,
        DistributionalRobustnessOptions,
        "features near their class's centroid, whatever shifts it (DRO-LT, arXiv:2104.03066)",
        task=RobustTask,
        mixing="none",
    ),
    "sbcl": LossEntry(
        None,
        SubClassContrastiveOptions,
        "contrast by sub-classes that balance the classes (arXiv:2306.15925)",
        task=SubClassTask,
        views=3,
    ),
}
