"""Every operation against Pillow pixel by pixel, the tables against torchvision's, the draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms import AutoAugmentPolicy

from ssl_lt.augment import autoaugment
from ssl_lt.augment.autoaugment import (
    _NUMBER,
    FILL,
    POLICIES,
    AutoAugment,
    apply_operations,
    value_at,
)
from ssl_lt.augment.randaugment import Slot
from ssl_lt.core.random import sample_keys

NAMES = sorted(
    {row[i] for table in POLICIES.values() for row in table for i in (0, 3)} | {"ShearX"}
)
ENHANCING = ("Color", "Contrast", "Brightness", "Sharpness")
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", *ENHANCING)
NO_VALUE = ("AutoContrast", "Equalize", "Invert")


def slot(names, values):
    numbers = torch.tensor([_NUMBER[n] for n in names])
    value = torch.tensor(values, dtype=torch.float64)
    return Slot(numbers, value, torch.zeros(len(names), 2, dtype=torch.float64))


def with_pillow(image, name, value):
    """One operation on one (3, H, W) uint8 image, by Pillow."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    width, height = picture.size
    gray = (FILL,) * 3
    affine, cubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    if name == "ShearX":
        got = picture.transform(picture.size, affine, (1, value, 0, 0, 1, 0), cubic, fillcolor=gray)
    elif name == "ShearY":
        got = picture.transform(picture.size, affine, (1, 0, 0, value, 1, 0), cubic, fillcolor=gray)
    elif name == "TranslateX":
        matrix = (1, 0, value * width, 0, 1, 0)
        got = picture.transform(picture.size, affine, matrix, fillcolor=gray)
    elif name == "TranslateY":
        matrix = (1, 0, 0, 0, 1, value * height)
        got = picture.transform(picture.size, affine, matrix, fillcolor=gray)
    elif name == "Rotate":
        got = picture.rotate(value, fillcolor=gray)
    elif name == "Posterize":
        got = ImageOps.posterize(picture, int(value))
    elif name == "Solarize":
        got = ImageOps.solarize(picture, value)
    elif name in NO_VALUE:
        got = getattr(ImageOps, name.lower())(picture)
    else:
        got = getattr(ImageEnhance, name)(picture).enhance(value)
    return torch.from_numpy(np.array(got)).permute(2, 0, 1)


def pictures(height, width):
    """Noise, a smooth picture, one constant, one with two values."""
    generator = torch.Generator().manual_seed(height)
    noise = torch.randint(0, 256, (3, height, width), generator=generator)
    smooth = torch.arange(height)[:, None] + 2 * torch.arange(width) + torch.zeros(3, 1, 1)
    two = 100 + 50 * (noise > 200)
    return torch.stack([noise, smooth, torch.full_like(noise, 77), two]).to(torch.uint8)


def signed_values(name):
    """Every value an operation can have in a policy."""
    values = [value_at(name, level) for level in range(10)]
    if name in ENHANCING:
        return [1 + v for v in values] + [1 - v for v in values]
    return values + [-v for v in values] if name in SIGNED else values


@pytest.mark.parametrize("size", [(32, 32), (20, 31)])
@pytest.mark.parametrize("name", NAMES)
def test_operation_equals_pillow_at_every_level(name, size):
    values = signed_values(name)
    for image in pictures(*size):
        rows = image.expand(len(values), -1, -1, -1)
        got = apply_operations(rows, slot([name] * len(values), values))
        for row, value in zip(got, values, strict=True):
            assert torch.equal(row, with_pillow(image, name, value)), value


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("cifar10", AutoAugmentPolicy.CIFAR10), ("imagenet", AutoAugmentPolicy.IMAGENET)],
)
def test_table_is_the_published_one(ours, theirs):
    want = TorchvisionAutoAugment(theirs).policies
    got = [
        tuple((n, p, None if n in NO_VALUE else level) for n, p, level in (row[:3], row[3:]))
        for row in POLICIES[ours]
    ]
    assert got == [tuple(tuple(o) for o in row) for row in want]


def test_ranges_of_the_levels():
    assert value_at("ShearX", 9) == pytest.approx(0.3)
    assert value_at("TranslateX", 9) == pytest.approx(150 / 331)
    assert value_at("Rotate", 3) == pytest.approx(10)
    assert [value_at("Posterize", level) for level in range(10)] == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]
    assert (value_at("Solarize", 0), value_at("Solarize", 9)) == (256, 0)
    assert value_at("Color", 9) == pytest.approx(0.9)


def draws(policy="cifar10", count=50_000):
    return AutoAugment(policy).draw(sample_keys(torch.arange(count), seed=3, epoch=1, view=0))


def expected_shares(policy, number):
    """Share of samples that get (operation, |value| before the sign) in a slot."""
    shares = {}
    for row in POLICIES[policy]:
        name, probability, level = row[3 * number : 3 * number + 3]
        value = value_at(name, level)
        key = (_NUMBER[name], 1 + value if name in ENHANCING else value)
        shares[key] = shares.get(key, 0) + probability / len(POLICIES[policy])
    return {key: share for key, share in shares.items() if share > 0}


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
@pytest.mark.parametrize("number", [0, 1])
def test_operations_come_as_often_as_the_table_says(policy, number):
    one = draws(policy)[number]
    count = len(one.operation)
    enhancing = torch.isin(one.operation, torch.tensor([_NUMBER[n] for n in ENHANCING]))
    size = torch.where(enhancing, 1 + (one.value - 1).abs(), one.value.abs())
    found = {}
    for operation, value in zip(one.operation.tolist(), size.tolist(), strict=True):
        if operation >= 0:
            key = (operation, round(value, 9))
            found[key] = found.get(key, 0) + 1
    want = expected_shares(policy, number)
    rounded = {}
    for (operation, value), share in want.items():
        key = (operation, round(value, 9))
        rounded[key] = rounded.get(key, 0) + share
    assert found.keys() == rounded.keys()
    for key, share in rounded.items():
        tolerance = 4 * (share * (1 - share) / count) ** 0.5
        assert abs(found[key] / count - share) <= tolerance, key


def test_both_operations_of_a_sample_are_of_one_sub_policy():
    first, second = draws()
    pairs = {
        (a, b)
        for a, b in zip(first.operation.tolist(), second.operation.tolist(), strict=True)
        if a >= 0 and b >= 0
    }
    assert pairs == {
        (_NUMBER[r[0]], _NUMBER[r[3]]) for r in POLICIES["cifar10"] if r[1] > 0 and r[4] > 0
    }


def test_signs_are_fair_and_rotation_has_none():
    for one in draws():
        for name in ("ShearY", "TranslateX", "TranslateY", "Color", "Brightness", "Sharpness"):
            values = one.value[one.operation == _NUMBER[name]]
            offset = values - (1 if name in ENHANCING else 0)
            up, down = int((offset > 0).sum()), int((offset < 0).sum())
            if up + down:
                assert stats.binomtest(up, up + down).pvalue > 1e-4, name
        assert (one.value[one.operation == _NUMBER["Rotate"]] >= 0).all()


def mixed(count=400):
    images = pictures(24, 24).repeat(count // 4, 1, 1, 1)
    return images, sample_keys(torch.arange(count), seed=5, epoch=0, view=0)


def test_sample_does_not_depend_on_its_batch_and_input_is_left_alone():
    images, keys = mixed()
    before, policy = images.clone(), AutoAugment("cifar10")
    together = policy(images, keys)
    assert torch.equal(images, before)
    assert not torch.equal(together, images)
    for row in range(0, 400, 7):
        part = slice(row, row + 1)
        assert torch.equal(policy(images[part], keys[part])[0], together[row])


def test_what_other_devices_do_equals_what_a_cpu_does():
    images, keys = mixed()
    want = AutoAugment("cifar10")(images, keys)

    class Elsewhere(torch.Tensor):
        is_cpu = False

    masked = images.as_subclass(Elsewhere)
    for one in AutoAugment("cifar10").draw(keys):
        assert not masked.is_cpu
        masked = autoaugment.apply_operations(masked, one).as_subclass(Elsewhere)
    assert torch.equal(masked.as_subclass(torch.Tensor), want)
