"""Under which prior of the classes a classifier's plain logits are posteriors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lt.core.types import Epoch
from ssl_lt.finetune.balance.class_rates import class_rates
from ssl_lt.finetune.balance.reweighting import class_weights
from ssl_lt.finetune.registry import prior_strength
from ssl_lt.losses.class_balanced import ClassBalancedOptions
from ssl_lt.losses.distributional_robustness import (
    DistributionalRobustnessOptions,
    frequency_weights,
)
from ssl_lt.losses.effective_number import effective_number_weights
from ssl_lt.runs.config.finetune import AnyFinetuneConfig


def logit_log_prior(config: AnyFinetuneConfig, counts_per_class: Sequence[int]) -> Tensor:
    """(C,) `log q`, where the softmax of plain logits is the posterior under the prior q.

    `q_j` is proportional to `r_j w_j / pi_j^tau`: the share of class j among the images that the
    last epoch draws, its weight, and the share of the log-prior that the loss adds to the logits
    while it trains. Of plain cross-entropy q is the training prior, of logit adjustment with tau 1
    it is uniform. Losses whose softmax is no posterior (margins, sigmoids) are taken for
    cross-entropy. What `--sampler meta` has learned to draw is not in the configuration: its draws
    are taken for those of the training set.

    Args:
        config: of the run.
        counts_per_class: (C,) training images of each class, none of them 0.
    """
    counts = torch.tensor(counts_per_class, dtype=torch.float64)
    last = Epoch(config.fit.num_epochs - 1, config.fit.num_epochs, 1)
    rates = (
        None if config.sampling.sampler == "meta" else class_rates(counts, config.sampling, last)
    )
    log_q = (counts if rates is None else rates).log()
    if last.number >= config.weights.reweight_after * last.total:
        log_q = log_q + class_weights(counts, config.weights).log()
    if isinstance(config.options, ClassBalancedOptions):
        log_q = log_q + effective_number_weights(counts, beta=config.options.beta).log()
    robust = isinstance(config.options, DistributionalRobustnessOptions)
    if robust and config.options.class_weights == "frequency":
        log_q = log_q + frequency_weights(counts).double().log()
    tau = prior_strength(config.loss, config.options)
    return torch.log_softmax(log_q - tau * counts.log(), dim=0)
