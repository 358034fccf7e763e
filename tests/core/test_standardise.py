import torch
from numpy.testing import assert_allclose

from ssl_lt.core.standardise import standardised


def test_standardised_features_have_no_mean_no_unit_and_no_noise():
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(86, 6, generator=generator, dtype=torch.float64)
    x = torch.cat([x, torch.full((86, 1), 0.1)], dim=1)
    train, test = standardised(x, x[:5])
    assert_allclose(train.mean(0).numpy(), 0, atol=1e-12)
    assert_allclose(train[:, :6].std(0, correction=0).numpy(), 1, rtol=1e-12)
    assert torch.equal(train[:, 6], torch.zeros(86))
    assert torch.equal(test, train[:5])
