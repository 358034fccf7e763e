"""One file a loss: the equation as a function of tensors, unreduced.

Others import `balanced_contrastive`, `balanced_softmax`, `class_balanced`, `complementary_experts`,
`cross_entropy`, `distributional_robustness`, `effective_number`, `embedding_margin`,
`expert_diversity`, `feature_compression`, `focal`, `focal_contrast`, `geometric_structure`,
`inverse_frequency`, `labelled_rows`, `ldam`, `logit_adjustment`, `mixed_labels`, `nt_xent`,
`pairwise_margin`, `parametric_contrastive`, `prototypical_contrastive`, `rebalanced_contrastive`,
`semantic_labels`, `sinkhorn`, `subclass_contrastive`, `subclasses`, `supervised_contrastive`,
`vector_scaling`.
"""
