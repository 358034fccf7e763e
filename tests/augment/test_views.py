"""Whole views: distributed as torchvision's, and functions of the keys."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms as tv

from ssl_lt.augment.geometric import crop_boxes, random_flips, resized_crop
from ssl_lt.augment.views import (
    LARGE_IMAGE_VIEW,
    SMALL_IMAGE_VIEW,
    ContrastiveView,
    PlainView,
    ViewOptions,
    WeakView,
    WorkerCrop,
)
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import ImageSpec

MEAN, STD = (0.48, 0.46, 0.41), (0.23, 0.22, 0.26)
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
BLURRED = replace(SMALL_IMAGE_VIEW, blur_probability=0.5)
NO_COLOR = replace(SMALL_IMAGE_VIEW, jitter_probability=0.0, gray_probability=0.0)


def keys_of(index, *, view=0, epoch=0):
    return sample_keys(torch.as_tensor(index), seed=9, epoch=epoch, view=view)


def photographs(count=3, size=32):
    """Smooth coloured images with an object-like bright patch."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    x = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    x[:, 0, size // 4 : size // 2, size // 4 : size // 2] *= 0.3
    return (x * 255).round().to(torch.uint8)


def noise(count, size=32):
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def statistics(views, image):
    """(n, 12) of each view: channel means, channel variances, changed pixels, grey, texture."""
    views = views.double()
    changed = ((views - image).abs().amax(1) > 8 / 255).double().mean((1, 2))
    gray = ((views.amax(1) - views.amin(1)).flatten(1).amax(1) < 1e-3).double()
    texture = (views[..., 1:] - views[..., :-1]).abs().mean((1, 2, 3))
    saturation = (views.amax(1) - views.amin(1)).mean((1, 2))
    # Pillow truncates to 8 bits after each operation: black is what is below two levels.
    dark = (views.amin((1, 2, 3)) < 2 / 255).double()
    bright = (views.amax((1, 2, 3)) > 1 - 2 / 255).double()
    single = torch.stack([changed, gray, texture, saturation, dark, bright], dim=1)
    return torch.cat([views.mean((2, 3)), views.var((2, 3)), single], dim=1)


class FixedOrderJitter(tv.ColorJitter):
    """torchvision's jitter with its order not shuffled."""

    def forward(self, img):
        _, b, c, s, h = self.get_params(self.brightness, self.contrast, self.saturation, self.hue)
        img = tv.functional.adjust_contrast(tv.functional.adjust_brightness(img, b), c)
        return tv.functional.adjust_hue(tv.functional.adjust_saturation(img, s), h)


# How often a view reaches black or white depends on the order, everything else hardly does.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "jitter", "compared"),
    [
        (SMALL_IMAGE_VIEW, FixedOrderJitter, 12),
        (BLURRED, FixedOrderJitter, 12),
        (SMALL_IMAGE_VIEW, tv.ColorJitter, 10),
    ],
    ids=["fixed-order", "fixed-order-blurred", "drawn-order"],
)
def test_views_are_distributed_as_torchvisions_on_pillow(options, jitter, compared):
    count = 800
    steps = [
        tv.RandomResizedCrop(32, (0.1, 1.0), interpolation=tv.InterpolationMode.BICUBIC),
        tv.RandomHorizontalFlip(),
        tv.RandomApply([jitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        tv.RandomGrayscale(0.2),
        tv.ToTensor(),
    ]
    if options.blur_probability:
        steps.append(tv.RandomApply([tv.GaussianBlur(3, (0.1, 2.0))], p=0.5))
    theirs = tv.Compose(steps)
    ours = ContrastiveView(options, ImageSpec(32, **UNIT))
    torch.manual_seed(0)
    for number, image in enumerate(photographs()):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = torch.stack([theirs(picture) for _ in range(count)])
        keys = keys_of(torch.arange(count), view=number)
        got = ours(image.expand(count, 3, 32, 32), keys)
        a = statistics(got, image / 255)[:, :compared]
        b = statistics(expected, image / 255)[:, :compared]
        # The extra terms are what the missing 8-bit rounding may change.
        allowed = 4 * ((a.var(0) + b.var(0)) / count).sqrt() + 0.002
        difference = (a.mean(0) - b.mean(0)).abs()
        assert (difference < allowed).all(), (difference / allowed).tolist()
        spread = (a.std(0) - b.std(0)).abs()
        assert (spread < 0.1 * b.std(0) + 0.01).all(), (spread / b.std(0)).tolist()


@pytest.mark.parametrize("options", [SMALL_IMAGE_VIEW, BLURRED], ids=["plain", "blurred"])
def test_a_view_does_not_depend_on_its_batch(options):
    # 100 samples need several slices; alone, a sample is a slice of its own.
    images, keys = noise(100), keys_of(torch.arange(100))
    view = ContrastiveView(options, ImageSpec(32, MEAN, STD))
    together = view(images, keys)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(view(images[order], keys[order]), together[order], rtol=0, atol=1e-5)
    for i in (0, 39, 40, 99):
        alone = view(images[i : i + 1], keys[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


def test_keys_decide_everything():
    images = noise(20)
    view = ContrastiveView(BLURRED, ImageSpec(32, MEAN, STD))
    index = torch.arange(20)
    first = view(images, keys_of(index))
    torch.manual_seed(123)
    assert torch.equal(view(images, keys_of(index)), first)
    assert torch.equal(view(images, keys_of(index), torch.rand(20)), first)
    other_view, other_epoch = keys_of(index, view=1), keys_of(index, epoch=1)
    for keys in (other_view, other_epoch):
        assert ((view(images, keys) - first).abs().amax((1, 2, 3)) > 1e-3).all()


@pytest.mark.parametrize("value", [0, 255])
def test_flat_images_give_finite_views_in_range(value):
    images = torch.full((300, 3, 32, 32), value, dtype=torch.uint8)
    out = ContrastiveView(BLURRED, ImageSpec(32, **UNIT))(images, keys_of(torch.arange(300)))
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-6


def test_the_large_preset_works_on_images_of_another_shape():
    images = torch.randint(0, 256, (2, 3, 250, 180), dtype=torch.uint8)
    out = ContrastiveView(LARGE_IMAGE_VIEW, ImageSpec(224, MEAN, STD))(images, keys_of([0, 1]))
    assert out.shape == (2, 3, 224, 224)
    assert out.isfinite().all()


def test_without_colors_a_view_is_the_crop_normalised():
    images, keys = noise(60), keys_of(torch.arange(60))
    boxes = crop_boxes(keys, 32, 32, scale=(0.1, 1.0))
    crops = resized_crop(
        images, boxes, size=32, flips=random_flips(keys, 0.5), interpolation="bicubic"
    )
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    out = ContrastiveView(NO_COLOR, ImageSpec(32, MEAN, STD))(images, keys)
    torch.testing.assert_close(out, (crops - mean) / std, rtol=0, atol=1e-5)


def test_share_of_mirrored_views():
    """Everything else in a view commutes with the mirror, so 1 is the mirror image of 0."""
    images, keys = noise(60), keys_of(torch.arange(60))
    spec = ImageSpec(32, MEAN, STD)
    for make in (
        lambda p: ContrastiveView(replace(BLURRED, flip_probability=p), spec),
        lambda p: WeakView(spec, flip_probability=p),
    ):
        never, always, usual, third = (make(p) for p in (0.0, 1.0, 0.5, 1 / 3))
        for views in (lambda view: view(images, keys), lambda view: view.after_crop(images, keys)):
            own = views(never)
            mirrored = own.flip(-1)
            torch.testing.assert_close(views(always), mirrored, rtol=0, atol=1e-4)
            for view, least, most in ((usual, 20, 40), (third, 10, 30)):
                made = views(view)
                gaps = [(made - of).abs().amax((1, 2, 3)) for of in (own, mirrored)]
                assert torch.minimum(*gaps).max() < 1e-4
                assert least <= (gaps[1] < gaps[0]).sum() <= most
    default = ContrastiveView(BLURRED, spec)(images, keys)
    half = ContrastiveView(replace(BLURRED, flip_probability=0.5), spec)(images, keys)
    assert torch.equal(default, half)


def test_boxes_that_a_worker_draws_do_not_depend_on_the_images_beside():
    worker, sizes = WorkerCrop((BLURRED, BLURRED), seed=9), [(20 + i, 90 - i) for i in range(60)]
    together = worker.boxes(4, range(60), sizes)
    assert together == [worker.boxes(4, [i], [size])[0] for i, size in enumerate(sizes)]
    for image, (height, width) in zip(together, sizes, strict=True):
        for top, left, rows, columns in image:
            assert 0 <= top <= height - rows
            assert 0 <= left <= width - columns


def test_a_worker_cuts_each_view_by_its_own_options():
    whole, half = replace(BLURRED, min_scale=1.0), replace(BLURRED, interpolation="bilinear")
    worker = WorkerCrop((whole, half), seed=9)
    assert worker.filters == ("bicubic", "bilinear")
    for first, second in worker.boxes(4, range(60), [(32, 32)] * 60):
        assert first == (0, 0, 32, 32)
        assert second[2] * second[3] <= 32 * 32
    alone = WorkerCrop((half, half), seed=9).boxes(4, range(60), [(32, 32)] * 60)
    assert [image[1] for image in alone] == [
        image[1] for image in worker.boxes(4, range(60), [(32, 32)] * 60)
    ]


def test_a_crop_made_by_a_worker_gives_the_same_view():
    images, index = noise(60), torch.arange(60)
    view = ContrastiveView(BLURRED, ImageSpec(32, MEAN, STD))
    worker = pickle.loads(pickle.dumps(WorkerCrop((BLURRED, BLURRED), seed=9)))
    boxes = torch.tensor(worker.boxes(4, index.tolist(), [(32, 32)] * 60))
    for number in (0, 1):
        keys = keys_of(index, view=number, epoch=4)
        own = crop_boxes(keys, 32, 32, scale=(0.1, 1.0))
        assert torch.equal(boxes[:, number], own)
        none = torch.zeros(60, dtype=torch.bool)
        crops = resized_crop(images, own, size=32, flips=none, interpolation="bicubic")
        crops = (crops * 255).round().to(torch.uint8)
        after, whole = view.after_crop(crops, keys), view(images, keys)
        # Half a grey level of rounding, amplified by jitter and division by std; hue and clipping
        # may amplify it further on a few pixels of noise.
        assert (after - whole).abs().mean() < 0.02
        assert (after - whole).abs().max() < 0.2


def test_plain_and_weak_views():
    images, keys = noise(50), keys_of(torch.arange(50))
    mean, std = np.reshape(MEAN, (3, 1, 1)), np.reshape(STD, (3, 1, 1))
    plain = PlainView(ImageSpec(32, MEAN, STD))(images, keys)
    np.testing.assert_allclose(plain.numpy(), (images.numpy() / 255 - mean) / std, atol=1e-5)
    weak = WeakView(ImageSpec(32, MEAN, STD), flip_probability=0.5)(images, keys)
    assert weak.shape == plain.shape
    black = torch.from_numpy(-mean / std).float()
    padded = torch.nn.functional.pad(plain - black, [4] * 4) + black
    flips = random_flips(keys, 0.5)
    for i in range(50):
        candidates = padded[i].unfold(1, 32, 1).unfold(2, 32, 1)
        expected = weak[i].flip(-1) if flips[i] else weak[i]
        gap = (candidates - expected[:, None, None]).abs().amax((0, 3, 4))
        assert gap.shape == (9, 9)
        assert (gap < 1e-5).sum() == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [SMALL_IMAGE_VIEW, BLURRED], ids=["plain", "blurred"])
def test_views_compile_without_a_break(options):
    images, keys = noise(6), keys_of(torch.arange(6))
    for view in (
        ContrastiveView(options, ImageSpec(32, MEAN, STD)),
        WeakView(ImageSpec(32, MEAN, STD), flip_probability=0.5),
        PlainView(ImageSpec(32, MEAN, STD)),
    ):
        compiled = torch.compile(view, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(images, keys), view(images, keys), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_a_compiled_view_is_the_same():
    # By the real compiler: it does arithmetic on indices itself, in which nothing may overflow.
    images, keys = noise(6), keys_of(torch.arange(6))
    view = ContrastiveView(SMALL_IMAGE_VIEW, ImageSpec(32, MEAN, STD))
    compiled = torch.compile(view, fullgraph=True)
    torch.testing.assert_close(compiled(images, keys), view(images, keys), rtol=0, atol=1e-5)


class NoHostReads(TorchDispatchMode):
    """Fails where a value of a tensor is brought to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "host sync"
        assert func is not torch.ops.aten.nonzero.default, "host sync"
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_back_to_the_host(monkeypatch):
    for module in ("views", "geometric", "resampling"):
        monkeypatch.setattr(f"ssl_lt.augment.{module}.on_host", lambda keys: False)
    images, keys = noise(6), keys_of(torch.arange(6))
    with NoHostReads():
        ContrastiveView(BLURRED, ImageSpec(32, MEAN, STD))(images, keys)
        ContrastiveView(BLURRED, ImageSpec(32, MEAN, STD)).after_crop(images, keys)
        WeakView(ImageSpec(32, MEAN, STD), flip_probability=0.5)(images, keys)
    with NoHostReads(), pytest.raises(AssertionError, match="host sync"):
        keys.sum().item()


def test_on_the_host_and_elsewhere_a_view_is_the_same(monkeypatch):
    images, keys = noise(40), keys_of(torch.arange(40))
    view = ContrastiveView(BLURRED, ImageSpec(32, MEAN, STD))
    here = view(images, keys)
    for module in ("views", "geometric", "resampling"):
        monkeypatch.setattr(f"ssl_lt.augment.{module}.on_host", lambda keys: False)
    torch.testing.assert_close(here, view(images, keys), rtol=0, atol=1e-5)


def test_mixed_precision_does_not_reach_the_view():
    images, keys = noise(6), keys_of(torch.arange(6))
    view = ContrastiveView(BLURRED, ImageSpec(32, MEAN, STD))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = view(images, keys)
    assert out.dtype == torch.float32
    assert torch.equal(out, view(images, keys))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_scale", 0.0),
        ("min_scale", 1.5),
        ("hue", 0.6),
        ("flip_probability", 1.1),
        ("gray_probability", -0.1),
        ("min_sigma", 3.0),
        ("brightness", float("nan")),
        ("interpolation", "nearest"),
    ],
)
def test_a_bad_option_is_named(field, value):
    with pytest.raises(ConfigError, match=f"^--view.{field.replace('_', '-')}: ") as caught:
        ViewOptions(**{field: value})
    assert "\n" not in str(caught.value)
