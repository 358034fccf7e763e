"""The public harmonization loss gives what the plug-in `gh` of `pretrain.py` computes."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.losses import GeometricHarmonizationLoss
from ssl_lt.pretrain.harmonization import GeometricHarmonization, HarmonizationOptions
from ssl_lt.pretrain.two_views import PairStep

N, B, D, K, EPOCHS = 24, 8, 6, 4, 4


def steps(epoch):
    g = torch.Generator().manual_seed(epoch)
    for index in torch.randperm(N, generator=g).split(B):
        z = torch.randn(2, B, D, generator=g) + torch.arange(D) * 0.5
        yield index, z[0].requires_grad_(), z[1]


@pytest.mark.parametrize("kind", ["per-sample", "streaming"])
def test_it_is_the_plug_in_s_term(kind):
    options = HarmonizationOptions(
        clusters=K, warmup_epochs=0, ramp_epochs=0, prior_period=1, prior=kind, prior_momentum=0.5,
        prior_momentum_after=0.5,
    )  # fmt: skip
    plugin = GeometricHarmonization(options, num_samples=N, dim=D, seed=3)
    samples = N if kind == "per-sample" else None
    loss = GeometricHarmonizationLoss(D, clusters=K, num_samples=samples, momentum=0.5, seed=3)
    for number in range(EPOCHS):
        epoch = Epoch(number, EPOCHS, N // B)
        plugin.on_epoch_start(epoch)
        loss.momentum = plugin.momentum
        for index, z1, z2 in steps(number):
            step = PairStep(index, z1, z2, torch.zeros(B), epoch)
            wanted = plugin.terms(step)["gh"]
            plugin.observe(step)
            found = loss(z1, z2, index)
            torch.testing.assert_close(found, wanted)
            (grad,) = torch.autograd.grad(found, z1)
            assert grad.isfinite().all()
        plugin.on_epoch_end(epoch)
        loss.update_prior()
        torch.testing.assert_close(loss.prior, plugin.class_prior.prior)
    assert loss.prior.std() > 0


def test_reductions():
    ((_, z1, z2), *_) = steps(0)
    rows = GeometricHarmonizationLoss(D, clusters=K, reduction="none")(z1, z2)
    assert rows.shape == (B,)
    mean = GeometricHarmonizationLoss(D, clusters=K)(z1, z2)
    torch.testing.assert_close(mean, rows.mean())


def test_in_evaluation_mode_nothing_is_learned():
    loss = GeometricHarmonizationLoss(D, clusters=K, num_samples=N).eval()
    for index, z1, z2 in steps(0):
        loss(z1, z2, index)
    assert not loss.class_prior.tables["logits"].any()


def test_its_state_has_the_prior(tmp_path):
    loss, other = (GeometricHarmonizationLoss(D, clusters=K, num_samples=N) for _ in range(2))
    for index, z1, z2 in steps(0):
        loss(z1, z2, index)
    loss.update_prior()
    torch.save(loss.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other.prior, loss.prior)
    assert torch.equal(other.class_prior.tables["logits"], loss.class_prior.tables["logits"])


Z, INDEX = torch.randn(3, D), torch.tensor([0, 5, 23])


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ((Z, Z), "index: not given"),
        ((Z, Z, torch.tensor([0, 24, 1])), r"index: 0 to 24, must be in 0 \.\.\. 23"),
        ((Z, Z, INDEX[:2]), "index: torch.int64 of shape"),
        ((Z[:, :4], Z[:, :4], INDEX), "z1: 4 columns, but the directions have 6"),
        ((Z[0], Z, INDEX), "z1: torch.float32 of shape"),
    ],
)
def test_a_bad_batch_is_refused(batch, says):
    with pytest.raises(ConfigError, match=says):
        GeometricHarmonizationLoss(D, clusters=K, num_samples=N)(*batch)


@pytest.mark.parametrize(
    "options",
    [{"clusters": 1}, {"temperature": 0.0}, {"epsilon": -1.0}, {"momentum": 1.0},
     {"reduction": "avg"}, {"num_samples": 0}],
)  # fmt: skip
def test_a_bad_option_is_refused(options):
    with pytest.raises(ConfigError):
        GeometricHarmonizationLoss(D, **options)
