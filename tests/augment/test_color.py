"""Colour operations against torchvision's float operations, sample by sample."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from ssl_lt.augment.color import (
    adjust_brightness_,
    adjust_contrast_,
    adjust_hue_,
    adjust_saturation_,
    blend_,
    color_jitter_,
    gaussian_blur,
    grayscale_,
    jitter_factors,
    luma,
)
from ssl_lt.core.random import sample_keys

BATCH = 12


def pictures(seed=0):
    """Random pixels with black, white, grey, pure and tied colours among them."""
    x = torch.rand(BATCH, 3, 9, 11, generator=torch.Generator().manual_seed(seed))
    special = [(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    special += [(1, 1, 0), (0, 1, 1), (1, 0, 1), (0.2, 0.2, 0.7), (0.7, 0.2, 0.2)]
    x[:, :, 0] = torch.tensor(special, dtype=torch.float32).T
    return x


def factors(low, high, seed=1):
    return low + (high - low) * torch.rand(BATCH, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (adjust_brightness_, tv.adjust_brightness, 0.0, 2.0),
        (adjust_contrast_, tv.adjust_contrast, 0.0, 2.0),
        (adjust_saturation_, tv.adjust_saturation, 0.0, 2.0),
        (adjust_hue_, tv.adjust_hue, -0.5, 0.5),
    ],
)
def test_an_operation_is_torchvisions(ours, theirs, low, high):
    x = pictures()
    f = factors(low, high)
    changed = x.clone()
    out = ours(changed, f)
    assert out.data_ptr() == changed.data_ptr()
    assert 0 <= out.min() <= out.max() <= 1
    for i in range(BATCH):
        torch.testing.assert_close(out[i], theirs(x[i], f[i].item()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("turn", [-0.5, -1 / 3, -1 / 6, 0.0, 1 / 6, 1 / 3, 0.5])
def test_hue_on_its_corners(turn):
    x = pictures()
    out = adjust_hue_(x.clone(), torch.full((BATCH,), turn))
    torch.testing.assert_close(out, tv.adjust_hue(x, turn), rtol=0, atol=1e-5)


def test_neutral_factors_change_nothing():
    x = pictures()
    one = torch.ones(BATCH)
    for operation in (adjust_brightness_, adjust_contrast_, adjust_saturation_):
        assert torch.equal(operation(x.clone(), one), x)
    torch.testing.assert_close(adjust_hue_(x.clone(), 0 * one), x, rtol=0, atol=2e-6)
    torch.testing.assert_close(
        color_jitter_(x.clone(), torch.stack([one, one, one, 0 * one])), x, rtol=0, atol=2e-6
    )


def test_grayscale_takes_only_the_named_samples():
    x = pictures()
    mask = torch.arange(BATCH) % 3 == 0
    out = grayscale_(x.clone(), mask)
    torch.testing.assert_close(
        out[mask], tv.rgb_to_grayscale(x[mask], num_output_channels=3), rtol=0, atol=1e-6
    )
    assert torch.equal(out[mask][:, 0], out[mask][:, 2])
    assert torch.equal(out[~mask], x[~mask])


def test_luma_and_blend_by_hand():
    x = pictures()
    expected = 0.2989 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    torch.testing.assert_close(luma(x)[:, 0], expected)
    f = factors(0.0, 1.8)
    by_hand = torch.stack([(f[i] * x[i] + (1 - f[i]) * x[0]).clamp(0, 1) for i in range(BATCH)])
    torch.testing.assert_close(blend_(x.clone(), x[:1], f), by_hand)


@pytest.mark.parametrize("kernel_size", [3, 9])
def test_blur_is_torchvisions(kernel_size):
    x = torch.rand(BATCH, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    sigmas = factors(0.1, 2.0)
    mask = torch.arange(BATCH) % 2 == 0
    out = gaussian_blur(x, sigmas, mask, kernel_size=kernel_size)
    for i in range(BATCH):
        expected = tv.gaussian_blur(x[i], [kernel_size] * 2, [sigmas[i].item()] * 2)
        torch.testing.assert_close(out[i], expected if mask[i] else x[i], rtol=0, atol=1e-5)


def test_jitter_applies_its_operations_in_the_stated_order():
    x = pictures()
    drawn = jitter_factors(keys_of(BATCH), strengths=(0.4, 0.4, 0.4, 0.1), probability=1.0)
    out = color_jitter_(x.clone(), drawn)
    for i in range(BATCH):
        b, c, s, h = drawn[:, i].tolist()
        expected = tv.adjust_brightness(x[i], b)
        expected = tv.adjust_saturation(tv.adjust_contrast(expected, c), s)
        expected = tv.adjust_hue(expected, h)
        torch.testing.assert_close(out[i], expected, rtol=0, atol=3e-5)


def keys_of(count):
    return sample_keys(torch.arange(count), seed=5, epoch=0, view=0)


def test_jitter_factors_cover_their_ranges_uniformly():
    drawn = jitter_factors(keys_of(20_000), strengths=(0.4, 1.5, 0.2, 0.1), probability=0.8)
    assert drawn.shape == (4, 20_000)
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
    alike = drawn == neutral[:, None]
    assert torch.equal(alike.all(0), alike.any(0))
    assert abs(alike[0].double().mean().item() - 0.2) < 0.012
    chosen = drawn[:, ~alike[0]].double()
    # Contrast's lower bound is cut at zero, as in torchvision.
    bounds = torch.tensor([[0.6, 1.4], [0.0, 2.5], [0.8, 1.2], [-0.1, 0.1]]).double()
    low, high = bounds.T
    u = (chosen - low[:, None]) / (high - low)[:, None]
    assert (u >= -1e-6).all()
    assert (u <= 1 + 1e-6).all()
    assert ((u.mean(1) - 0.5).abs() < 0.01).all()
    assert ((u.var(1) - 1 / 12).abs() < 0.003).all()
    # The four factors of a sample are independent.
    assert (torch.corrcoef(u) - torch.eye(4)).abs().max() < 0.04
