"""One file a loss: the equation as a function of tensors, unreduced; and modules for any loop.

`from ssl_lt.losses import RebalancedContrastiveLoss` and the others of `__all__` are for a loop of
one's own: they take plain arguments, check their input and reduce. docs/python.md shows them.

Others import `balanced_contrastive`, `balanced_softmax`, `class_balanced`, `class_prior`,
`complementary_experts`, `cross_entropy`, `distributional_robustness`, `effective_number`,
`embedding_margin`, `expert_diversity`, `feature_compression`, `focal`, `focal_contrast`,
`geometric_structure`, `harmonization`, `inverse_frequency`, `labelled_rows`, `ldam`,
`logit_adjustment`, `memorization`, `mixed_labels`, `nt_xent`, `pairwise_margin`,
`parametric_contrastive`, `prototypical_contrastive`, `rebalanced_contrastive`, `semantic_labels`,
`sinkhorn`, `subclass_contrastive`, `subclasses`, `supervised_contrastive`, `vector_scaling`.
"""

from ssl_lt.losses.memorization import MemorizationMemory
from ssl_lt.losses.modules.class_balanced import (
    ClassBalancedFocalLoss,
    ClassBalancedSigmoidLoss,
    ClassBalancedSoftmaxLoss,
)
from ssl_lt.losses.modules.classification import (
    BalancedSoftmaxLoss,
    CrossEntropyLoss,
    FocalLoss,
    LDAMHingeLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PairwiseMarginLoss,
    VectorScalingLoss,
)
from ssl_lt.losses.modules.contrastive import (
    BalancedContrastiveLoss,
    NTXentLoss,
    RebalancedContrastiveLoss,
    SupervisedContrastiveLoss,
)
from ssl_lt.losses.modules.harmonization import GeometricHarmonizationLoss

__all__ = [
    "BalancedContrastiveLoss",
    "BalancedSoftmaxLoss",
    "ClassBalancedFocalLoss",
    "ClassBalancedSigmoidLoss",
    "ClassBalancedSoftmaxLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "GeometricHarmonizationLoss",
    "LDAMHingeLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "MemorizationMemory",
    "NTXentLoss",
    "PairwiseMarginLoss",
    "RebalancedContrastiveLoss",
    "SupervisedContrastiveLoss",
    "VectorScalingLoss",
]
