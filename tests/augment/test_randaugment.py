"""Every operation against Pillow, pixel by pixel, and the statistics of the draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy import stats

from ssl_lt.augment import randaugment
from ssl_lt.augment.randaugment import OPERATIONS, PASSES, RandAugment, Slot, apply_slot
from ssl_lt.core.random import sample_keys

NAMES = [operation.name for operation in OPERATIONS]
FILE = "pretraining/bcl_randaug.npz"


def value_at(operation, magnitude):
    return magnitude / 30 * (operation.maximum - operation.minimum) + operation.minimum


def slot(numbers, values, centres):
    return Slot(
        torch.as_tensor(numbers),
        torch.as_tensor(values, dtype=torch.float64),
        torch.as_tensor(centres, dtype=torch.float64),
    )


def to_tensor(array):
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)


def with_pillow(image, name, value, centre):
    """One operation on one (3, H, W) uint8 image, as the released code calls Pillow."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    width, height = picture.size
    affine = {
        "ShearX": (1, value, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, value, 1, 0),
        "TranslateX": (1, 0, value * width, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, value * height),
    }
    if name in affine:
        changed = picture.transform(picture.size, Image.Transform.AFFINE, affine[name])
    elif name == "Rotate":
        changed = picture.rotate(value)
    elif name in ("AutoContrast", "Invert", "Equalize"):
        changed = getattr(ImageOps, name.lower())(picture)
    elif name == "Solarize":
        changed = ImageOps.solarize(picture, value)
    elif name == "Posterize":
        changed = ImageOps.posterize(picture, int(value))
    elif name == "Cutout":
        changed, side = picture.copy(), value * width
        left = int(max(0, centre[0] * width - side / 2))
        top = int(max(0, centre[1] * height - side / 2))
        corners = (left, top, min(width, left + side), min(height, top + side))
        if value > 0:
            ImageDraw.Draw(changed).rectangle(corners, (125, 123, 114))
    else:
        changed = getattr(ImageEnhance, name)(picture).enhance(value)
    return to_tensor(changed)


def pictures(height, width):
    """Noise, a smooth picture of few values, one constant, one with two values."""
    generator = torch.Generator().manual_seed(height)
    noise = torch.randint(0, 256, (3, height, width), generator=generator)
    smooth = torch.arange(height)[:, None] + 2 * torch.arange(width) + torch.zeros(3, 1, 1)
    two = 100 + 50 * (noise > 200)
    return torch.stack([noise, smooth, torch.full_like(noise, 77), two]).to(torch.uint8)


def test_table_matches_the_released_one(golden):
    data = golden(FILE)
    expected = {
        str(name): (low, high)
        for name, low, high in zip(data["op_names"], data["op_min"], data["op_max"], strict=True)
    }
    assert {o.name: (o.minimum, o.maximum) for o in OPERATIONS} == expected
    assert {o.name for o in OPERATIONS if o.signed} == {
        "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
    }  # fmt: skip


@pytest.mark.parametrize("sign", ["pos", "neg"])
@pytest.mark.parametrize("magnitude", [10, 20, 30])
@pytest.mark.parametrize("name", NAMES)
def test_operation_equals_the_released_code(golden, name, magnitude, sign):
    data = golden(FILE)
    operation = OPERATIONS[NAMES.index(name)]
    value = value_at(operation, magnitude)
    if operation.signed and sign == "neg":
        value = -value
    image = to_tensor(data["image"])[None]
    got = apply_slot(
        image, slot([NAMES.index(name)], [value], data["cutout_xy_uniform"][None] / 32)
    )
    assert torch.equal(got[0], to_tensor(data[f"{name}_m{magnitude}_{sign}"]))


@pytest.mark.parametrize("size", [(32, 32), (20, 31), (64, 40)])
@pytest.mark.parametrize("name", NAMES)
def test_operation_equals_pillow(name, size):
    number, operation = NAMES.index(name), OPERATIONS[NAMES.index(name)]
    rng = np.random.default_rng(number)
    for image in pictures(*size):
        magnitudes = np.concatenate([[0, 15, 30], rng.uniform(0, 30, 9)])
        values = [value_at(operation, m) for m in magnitudes]
        if operation.signed:
            values = [-v if i % 2 else v for i, v in enumerate(values)]
        centres = rng.uniform(0, 1, (12, 2))
        got = apply_slot(image.expand(12, -1, -1, -1), slot([number] * 12, values, centres))
        for row, value, centre in zip(got, values, centres, strict=True):
            assert torch.equal(row, with_pillow(image, name, value, centre)), (value, centre)


def mixed_batch(num_ops=1):
    images = pictures(24, 24).repeat(40, 1, 1, 1)
    keys = sample_keys(torch.arange(len(images)), seed=0, epoch=0, view=0)
    full = torch.full((len(images),), 0.8)
    return images, RandAugment(num_ops).draw(keys, probability=full, magnitude=25 * full)


def test_sample_does_not_depend_on_its_batch():
    images, (one,) = mixed_batch()
    together = apply_slot(images, one)
    assert set(one.operation.tolist()) == set(range(-1, 15))
    for row in range(len(images)):
        alone = apply_slot(images[row : row + 1], one.rows(torch.tensor([row])))
        assert torch.equal(alone[0], together[row])


def test_masked_passes_equal_grouped_ones():
    images, (one,) = mixed_batch()
    grouped = randaugment._apply_grouped(images, one, PASSES)
    assert torch.equal(randaugment._apply_masked(images, one, PASSES), grouped)


def test_input_is_left_alone_and_minus_one_does_nothing():
    images, (one,) = mixed_batch()
    before = images.clone()
    changed = apply_slot(images, one)
    assert torch.equal(images, before)
    idle = one.operation == -1
    assert idle.any()
    assert torch.equal(changed[idle], images[idle])
    assert not torch.equal(changed[~idle], images[~idle])


def draws(count=30_000, *, num_ops=2, probability=1.0, magnitude=12.0):
    keys = sample_keys(torch.arange(count), seed=3, epoch=1, view=0)
    return RandAugment(num_ops).draw(
        keys,
        probability=torch.full((count,), probability),
        magnitude=torch.full((count,), magnitude),
    )


def test_values_follow_the_magnitude(golden):
    data = golden(FILE)
    names = [str(name) for name in data["op_names"]]
    for column, magnitude in enumerate(data["m"]):
        (one,) = draws(500, num_ops=1, magnitude=float(magnitude))
        for number, value in zip(one.operation.tolist(), one.value.tolist(), strict=True):
            expected = data["values"][names.index(NAMES[number]), column]
            assert abs(value) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_operations_are_uniform_and_drawn_with_replacement():
    first, second = draws()
    pair = first.operation * 15 + second.operation
    counts = torch.bincount(pair, minlength=225)
    assert len(counts) == 225
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.8, 1.0])
def test_operations_are_applied_as_often_as_asked(golden, probability):
    released = float(golden(FILE)[f"apply_rate_k2_w{probability}"])
    applied = torch.stack([one.operation >= 0 for one in draws(probability=probability)])
    rate = applied.double().mean().item()
    # Theirs is a mean of 8,000 draws, ours of 60,000; 4 standard deviations.
    assert abs(rate - released) <= 4 * (0.25 / 8000 + 0.25 / 60_000) ** 0.5
    assert abs(rate - probability) <= 4 * (probability * (1 - probability) / 60_000) ** 0.5
    both = applied.all(0).double().mean().item()
    assert abs(both - probability**2) < 0.012


def test_signs_are_fair_where_there_are_any():
    (one,) = draws(num_ops=1)
    signed = one.operation < 5
    assert abs((one.value[signed] < 0).double().mean().item() - 0.5) < 4 * 0.5 / 10_000**0.5
    assert (one.value[~signed] >= 0).all()


def test_cut_out_centres_are_uniform():
    (one,) = draws(num_ops=1)
    cell = (one.centre * 8).long() @ torch.tensor([8, 1])
    assert stats.chisquare(torch.bincount(cell, minlength=64).numpy()).pvalue > 1e-3
