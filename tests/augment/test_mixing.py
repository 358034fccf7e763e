from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import beta, kstest

from ssl_lt.augment.mixing import (
    Mixer,
    MixOptions,
    beta_quantiles,
    from_quantiles,
    outside_boxes,
    pasted_boxes,
)
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import draw_id, sample_keys, uniform

KINDS = ["mixup", "cutmix", "both", "concutmix"]
CPU = torch.device("cpu")


def keys(number):
    return sample_keys(torch.arange(number), seed=1, epoch=2, view=0)


def draws(number):
    """Whether to mix, mixup or CutMix, lam by its quantile, and the centre, of each image."""
    return uniform(keys(number), draw_id("image mixing"), 5)


def pictures(number, *, height=8, width=6):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(2, number, 3, height, width, generator=generator, dtype=torch.float64)


def mixed(kind, number=64, **options):
    """Images, partners, what a mixer makes of them, and the own shares."""
    images, partners = pictures(number)
    return images, partners, *Mixer(MixOptions(kind, **options))(images, partners, keys(number))


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.8, 1.0, 4.0])
def test_shares_are_from_the_beta_distribution(alpha):
    u = uniform(keys(20_000), draw_id("anything"))[:, 0]
    drawn = from_quantiles(beta_quantiles(alpha), u).numpy()
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert kstest(drawn, beta(alpha, alpha).cdf).pvalue > 1e-3
    nodes = torch.arange(0, 1, 1 / 64)
    wanted = torch.from_numpy(beta(alpha, alpha).ppf(nodes.numpy()))
    torch.testing.assert_close(from_quantiles(beta_quantiles(alpha), nodes), wanted)


def test_mixup_by_the_equation():
    images, partners, found, share = mixed("mixup", mix_alpha=1.0)
    u = draws(64)[:, 2]
    for i in range(64):
        lam = u[i].item()  # Beta(1, 1) is uniform
        assert share[i].item() == pytest.approx(lam, abs=1e-6)
        wanted = lam * images[i] + (1 - lam) * partners[i]
        torch.testing.assert_close(found[i], wanted, rtol=1e-6, atol=1e-6)


def slow_box(lam, place, *, height, width):
    """The released code of CutMix."""
    cut = math.sqrt(1 - lam)
    sides = int(height * cut), int(width * cut)
    centre = int(place[0] * height), int(place[1] * width)
    limits = height, width
    starts = [min(max(c - s // 2, 0), n) for c, s, n in zip(centre, sides, limits, strict=True)]
    ends = [min(max(c + s // 2, 0), n) for c, s, n in zip(centre, sides, limits, strict=True)]
    return [*starts, *ends]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 12), (32, 32), (1, 1)])
def test_boxes_by_the_released_rule(height, width):
    lam = torch.linspace(0, 1, 50, dtype=torch.float64)
    centres = draws(50)[:, 3:]
    found = pasted_boxes(lam, centres, height=height, width=width).tolist()
    for own, place, box in zip(lam.tolist(), centres.tolist(), found, strict=True):
        assert box == slow_box(own, place, height=height, width=width)


def test_cutmix_pixel_by_pixel_with_the_exact_share():
    images, partners, found, share = mixed("cutmix")
    for i, (_, _, lam, *place) in enumerate(draws(64).tolist()):
        top, left, bottom, right = slow_box(lam, place, height=8, width=6)
        own = 0
        for y in range(8):
            for x in range(6):
                is_own = not (top <= y < bottom and left <= x < right)
                own += is_own
                wanted = images if is_own else partners
                assert torch.equal(found[i, :, y, x], wanted[i, :, y, x])
        assert share[i].item() == pytest.approx(own / 48)
    assert 0.4 < share.mean() < 0.8  # boxes are clipped, and their sides rounded down


def test_an_empty_box_and_a_whole_one():
    boxes = torch.tensor([[3, 2, 3, 2], [0, 0, 4, 5]])
    outside = outside_boxes(boxes, height=4, width=5)
    assert outside[0].all()
    assert not outside[1].any()


def test_both_is_one_of_the_two():
    images, _, found, share = mixed("both", number=400)
    _, _, cut, cut_share = mixed("cutmix", number=400)
    _, _, blended, blended_share = mixed("mixup", number=400)
    is_cut = (found == cut).flatten(1).all(dim=1)
    is_blended = (found == blended).flatten(1).all(dim=1)
    assert (is_cut | is_blended).all()
    assert 150 < int(is_cut.sum()) < 260
    assert torch.equal(share, torch.where(is_cut, cut_share, blended_share))
    assert len(images) == 400


@pytest.mark.parametrize("kind", KINDS)
def test_without_probability_nothing_is_mixed(kind):
    images, _, found, share = mixed(kind, mix_probability=0.0)
    assert torch.equal(found, images)
    assert torch.equal(share, torch.ones(64))


def test_with_a_probability_as_many_are_mixed():
    images, _, found, share = mixed("mixup", number=400, mix_alpha=1.0, mix_probability=0.3)
    same = (found == images).flatten(1).all(dim=1)
    assert torch.equal(share == 1, same)
    assert 80 < int((~same).sum()) < 160


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_mixed_as_its_key_says_whatever_the_batch(kind):
    images, partners, found, share = mixed(kind)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:20]
    mixer = Mixer(MixOptions(kind))
    again, share_again = mixer(images[order], partners[order], keys(64)[order])
    assert torch.equal(again, found[order])
    assert torch.equal(share_again, share[order])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_mixed_with_itself_stays(kind):
    images, _ = pictures(16)
    torch.testing.assert_close(Mixer(MixOptions(kind))(images, images, keys(16))[0], images)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_stays(kind):
    images, partners = pictures(4).float()
    found, share = Mixer(MixOptions(kind))(images, partners, keys(4))
    assert (found.dtype, share.dtype) == (torch.float32, torch.float32)


def test_partners_in_the_batch_are_neighbours_however_it_is_shared():
    mixer = Mixer(MixOptions("mixup"))
    whole = mixer.partner_rows(12, device=CPU)
    assert whole.tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]
    for size in (2, 4, 6):
        parts = [mixer.partner_rows(size, device=CPU) + start for start in range(0, 12, size)]
        assert torch.equal(torch.cat(parts), whole)


def test_partners_that_were_read_are_the_second_half():
    mixer = Mixer(MixOptions("cutmix", mix_partners="class_balanced"))
    assert mixer.partner_rows(6, device=CPU).tolist() == [3, 4, 5]


def test_defaults():
    assert MixOptions("mixup").alphas[0] == 0.2
    assert MixOptions("cutmix").alphas[1] == 1.0
    assert MixOptions("both", mix_alpha=0.8).alphas == (0.8, 0.8)
    found = {k: (MixOptions(k).probability, MixOptions(k).partners) for k in KINDS}
    assert found == {k: (1.0, "batch") for k in KINDS[:3]} | {"concutmix": (0.5, "class_balanced")}
    assert not MixOptions().pairs_the_batch
    assert not MixOptions().reads_partners
    by_area = MixOptions("concutmix", mix_alpha=0.3).by_area()
    assert by_area == MixOptions("cutmix", 0.3, 0.5, "class_balanced")
    assert MixOptions("mixup").by_area() == MixOptions("mixup")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mix_alpha": 0.0}, "--mix-alpha: 0.0 is not a positive number"),
        ({"mix_probability": 1.5}, r"--mix-probability: 1.5 is outside \[0, 1\]"),
    ],
)
def test_values_outside_their_range(values, says):
    with pytest.raises(ConfigError, match=says):
        MixOptions("mixup", **values)
