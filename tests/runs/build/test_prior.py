"""Under which prior plain logits are posteriors, loss by loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ssl_lt.finetune.balance.class_rates import SamplerOptions
from ssl_lt.finetune.balance.reweighting import ReweightOptions
from ssl_lt.finetune.registry import LOSSES, prior_strength
from ssl_lt.runs.build.prior import logit_log_prior
from ssl_lt.runs.config.finetune import default_config

COUNTS = (60, 30, 10)
PRIOR = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
UNIFORM = torch.full((3,), 1 / 3, dtype=torch.float64)


def prior(loss="ce", **changed):
    config = default_config(loss)
    config = replace(config, fit=replace(config.fit, epochs=10), **changed)
    return logit_log_prior(config, COUNTS).exp()


@pytest.mark.parametrize("loss", ["ce", "focal", "ldam"])
def test_after_cross_entropy_it_is_that_of_training(loss):
    torch.testing.assert_close(prior(loss), PRIOR)


@pytest.mark.parametrize(
    "loss", ["la", "balanced_softmax", "pairwise", "bcl", "paco", "hybrid_sc", "elm"]
)
def test_after_logit_adjustment_it_is_uniform(loss):
    torch.testing.assert_close(prior(loss), UNIFORM)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_head_starts_with_the_adjustment_that_training_has(loss):
    tau = prior_strength(loss, default_config(loss).options)
    adjusted = PRIOR ** (1 - tau)
    if not loss.startswith("cb_"):  # they weigh images, too
        torch.testing.assert_close(prior(loss), adjusted / adjusted.sum())
    plain = {"ce", "focal", "cb_softmax", "cb_sigmoid", "cb_focal", "ldam", "ldam_hinge"}
    assert (tau == 0) == (loss in plain)


def test_more_adjustment_than_the_prior_turns_it_round():
    config = default_config("la")
    odds = PRIOR ** (1 - 1.5)
    found = prior("la", options=replace(config.options, tau=1.5))
    torch.testing.assert_close(found, odds / odds.sum())


def test_weights_and_draws_count():
    torch.testing.assert_close(prior(weights=ReweightOptions("inverse")), UNIFORM)
    deferred = ReweightOptions("inverse", reweight_after=1.0)
    torch.testing.assert_close(prior(weights=deferred), PRIOR)
    torch.testing.assert_close(prior(sampling=SamplerOptions("class_balanced")), UNIFORM)
    odds = PRIOR.sqrt()
    found = prior(sampling=SamplerOptions("square_root"))
    torch.testing.assert_close(found, odds / odds.sum())
    assert float(prior("cb_softmax")[0]) < 0.6


def test_class_weights_of_a_loss_of_its_own_count():
    options = replace(default_config("dro_lt").options, class_weights="frequency")
    torch.testing.assert_close(prior("dro_lt", options=options), PRIOR)
