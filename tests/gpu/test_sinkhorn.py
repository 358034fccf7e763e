"""Sinkhorn where nothing looks at the error."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.losses.sinkhorn import sinkhorn
from tests.gpu.steps import CUDA, no_waiting
from tests.losses.test_sinkhorn import clustered, share_error

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("shape", [(512, 100), (4096, 1000)])
@pytest.mark.parametrize("noise", [1.0, 0.1, 0.03])
def test_no_share_is_wrong(shape, noise, tf32, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    logits, prior = clustered(*shape, noise=noise)
    views = torch.stack([logits, logits.flip(0)]).to(CUDA)
    for plan in sinkhorn(views, prior.to(CUDA), epsilon=0.05).cpu():
        assert share_error(plan, prior) < 1.5e-6
        torch.testing.assert_close(plan.sum(1), torch.ones(len(plan)), atol=1e-5, rtol=0)


def test_equals_the_cpu():
    logits, prior = clustered(512, 100, noise=0.1)
    logits, prior = logits.double(), prior.double() / prior.double().sum()
    found = sinkhorn(logits.to(CUDA), prior.to(CUDA), epsilon=0.05, tolerance=1e-10).cpu()
    expected = sinkhorn(logits, prior, epsilon=0.05, tolerance=1e-10)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_host_does_not_wait():
    logits, prior = torch.randn(2, 512, 100, device=CUDA), torch.full((100,), 0.01, device=CUDA)
    sinkhorn(logits, prior, epsilon=0.05)
    torch.cuda.synchronize()
    with no_waiting():
        sinkhorn(logits, prior, epsilon=0.05)
