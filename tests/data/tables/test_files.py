"""Files through crops, cache, workers and ordered batches."""

import pickle
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ssl_lt.core import progress
from ssl_lt.core.errors import DataError
from ssl_lt.data.images.crops import (
    CENTRE_FRACTION,
    centre,
    centre_square,
    crop_then_resize,
    storage_size,
    thumbnail,
)
from ssl_lt.data.loading import plan as loaders
from ssl_lt.data.loading import worker_loader
from ssl_lt.data.loading.ordered import ordered_batches
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.loading.worker_loader import CutFiles, WorkerLoader
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.tables.decode_once import decode_once
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.table import PixelTable
from tests.toolbox import plain_spec

CPU = torch.device("cpu")
NUM_FILES = 11


@dataclass(frozen=True)
class TwoCorners:
    """Two boxes that depend on everything a crop may depend on."""

    filters: tuple[str, str] = ("bicubic", "bicubic")

    def boxes(self, epoch, index, sizes):
        sides = [8 + row % 4 + epoch for row in index]
        return [
            [(0, 0, side, side), (height - side, width - side, side, side)]
            for side, (height, width) in zip(sides, sizes, strict=True)
        ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pictures of different sizes, smooth enough to compare after resizing."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(NUM_FILES):
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        size = (40 + 3 * number, 64 - 2 * number)
        coarse.resize(size, Image.Resampling.BICUBIC).save(root / f"{number:02}.png")
    names = np.array([f"{number:02}.png".encode() for number in range(NUM_FILES)])
    return FileTable(root, names, torch.arange(NUM_FILES) % 3)


def make(table, num_workers=0, batch_size=4, crop=None):
    plan = BatchSchedule(len(table), batch_size, seed=5)
    crop = crop or TwoCorners()
    return WorkerLoader(
        table, crop, plan, spec=plain_spec(8), device=CPU, workers=Workers(num_workers)
    )


def equal(first, second):
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("images", "labels", "index")
    )


# --- crops


def test_a_box_of_the_output_size_is_cut_out_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    found = crop_then_resize(Image.fromarray(pixels), [(2, 5, 6, 6), (0, 0, 6, 6)], size=6)
    want = torch.from_numpy(pixels).permute(2, 0, 1)
    assert found.shape == (2, 3, 6, 6)
    assert torch.equal(found[0], want[:, 2:8, 5:11])
    assert torch.equal(found[1], want[:, :6, :6])


def test_shrinking_does_not_alias():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    image = Image.fromarray(checks.astype(np.uint8)).convert("RGB")
    small = crop_then_resize(image, [(0, 0, 64, 64)], size=8)
    assert (small.float() - 127.5).abs().max() < 12


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 128)])
def test_the_centre_square_is_the_usual_resize_and_centre_crop(files, size):
    usual = v2.Compose(
        [v2.Resize(storage_size(28), v2.InterpolationMode.BICUBIC), v2.CenterCrop(28)]
    )
    # Sizes at which torchvision has nothing to round: longer side and corner are whole pixels.
    image = Image.open(files.path(0)).resize(size, Image.Resampling.BICUBIC)
    found = centre_square(image, size=28, fraction=CENTRE_FRACTION)
    want = torch.from_numpy(np.asarray(usual(image)).copy()).permute(2, 0, 1)
    assert (found.int() - want.int()).abs().max() <= 1


def test_thumbnails_are_the_middle_and_small_images_stay_as_they_are():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8))
    assert np.array_equal(thumbnail(image), np.asarray(image))
    assert thumbnail(image.resize((300, 100))).shape == (64, 64, 3)


def test_centre():
    pixels = torch.arange(36).view(1, 1, 6, 6).expand(1, 3, 6, 6)
    assert torch.equal(centre(pixels, size=2), pixels[..., 2:4, 2:4])
    assert centre(pixels, size=6) is pixels
    assert centre(pixels, size=9) is pixels
    assert storage_size(224) == 256


# --- workers


def test_batches_hold_the_boxes_of_their_rows(files):
    for batch in make(files).epoch(3):
        assert batch.images.shape == (4, 2, 3, 8, 8)
        assert batch.images.dtype == torch.uint8
        assert torch.equal(batch.labels, batch.index % 3)
        for views, index in zip(batch.images, batch.index.tolist(), strict=True):
            image = Image.open(files.path(index))
            (boxes,) = TwoCorners().boxes(3, [index], [(image.height, image.width)])
            assert torch.equal(views, crop_then_resize(image, boxes, size=8))


def test_few_or_many_images_opened_at_a_time_change_nothing(files, monkeypatch):
    together = [batch.images for batch in make(files).epoch(3)]
    monkeypatch.setattr(worker_loader, "_OPEN_PIXELS", 5000)  # two or three of them
    for batch, images in zip(make(files).epoch(3), together, strict=True):
        assert torch.equal(batch.images, images)


def test_workers_change_nothing_and_epochs_can_be_left_in_the_middle(files):
    alone, workers = make(files), make(files, num_workers=2)
    for epoch in (0, 1):
        batches = list(workers.epoch(epoch))
        assert len(batches) == workers.steps_per_epoch == 2
        assert all(map(equal, batches, alone.epoch(epoch)))
    next(iter(workers.epoch(4)))
    left = list(workers.epoch(5, first_step=1))
    assert len(left) == 1
    assert equal(left[0], list(alone.epoch(5))[1])


def test_the_order_is_that_of_pixels_in_memory(files):
    plan = BatchSchedule(NUM_FILES, 4, seed=5)
    pixels = PixelTable(torch.zeros(NUM_FILES, 3, 1, 1, dtype=torch.uint8), files.labels)
    in_memory = loaders.TrainLoader(pixels, plan, device=CPU)
    for one, other in zip(make(files).epoch(2), in_memory.epoch(2), strict=True):
        assert torch.equal(one.index, other.index)


def test_two_ranks_together_are_one(files, monkeypatch):
    whole = list(make(files).epoch(0))
    shares = []
    monkeypatch.setattr(loaders, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(loaders, "rank", lambda rank=rank: rank)
        shares.append(list(make(files).epoch(0)))
    for want, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([first.images, second.images]), want.images)
        assert torch.equal(torch.cat([first.index, second.index]), want.index)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_file_stops_with_one_line_that_names_it(files, tmp_path, num_workers):
    (tmp_path / "bad.png").write_bytes(files.path(0).read_bytes()[:200])
    table = FileTable(tmp_path, np.array([b"bad.png"] * 4), torch.zeros(4, dtype=torch.int64))
    # One line, and no name for the error: it would keep the loader and its workers.
    with pytest.raises(DataError, match=r"\A[^\n]*bad\.png[^\n]*\Z"):
        list(make(table, num_workers).epoch(0))
    batches = ordered_batches(
        table, batch_size=2, spec=plain_spec(8), device=CPU, workers=Workers(num_workers)
    )
    with pytest.raises(DataError, match=r"bad\.png"):
        next(batches)


def test_the_global_random_state_is_left_alone(files):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make(files).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_each_view_is_resized_by_its_own_filter(files):
    crop = TwoCorners(filters=("bilinear", "bicubic"))
    views = CutFiles(files, crop, plain_spec(8)).__getitems__([(1, 3)])[0][0]
    image = files.read(3)
    (boxes,) = crop.boxes(1, [3], [(image.height, image.width)])
    for view, box, mode in zip(views, boxes, crop.filters, strict=True):
        others = {"bilinear", "bicubic"} - {mode}
        assert torch.equal(view[None], crop_then_resize(image, [box], size=8, filters=[mode]))
        assert not torch.equal(view[None], crop_then_resize(image, [box], size=8, filters=others))


def test_what_workers_get_can_be_pickled(files):
    key = [(1, 3)]
    original = CutFiles(files, TwoCorners(), plain_spec(8))
    copy = pickle.loads(pickle.dumps(original))
    assert torch.equal(copy.__getitems__(key)[0], original.__getitems__(key)[0])


# --- cache and ordered batches


def test_a_folder_that_fits_is_decoded_once(files):
    side = storage_size(28)
    stored = decode_once(files, plain_spec(28), limit_mib=1)
    assert isinstance(stored, PixelTable)
    assert stored.pixels.shape == (NUM_FILES, 3, side, side)
    assert torch.equal(stored.labels, files.labels)
    assert decode_once(stored, plain_spec(28), limit_mib=0) is stored
    assert decode_once(files, plain_spec(28), limit_mib=0) is files


def test_looking_up_and_decoding_files_is_tracked(files, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    files.content_sha256()
    assert f"looking up files: {NUM_FILES} of {NUM_FILES}" in capsys.readouterr().err
    decode_once(files, plain_spec(28), limit_mib=1)
    assert f"decoding images: {NUM_FILES} of {NUM_FILES}" in capsys.readouterr().err


def test_the_limit_counts_what_is_stored(files):
    fits = files.take(np.zeros(341, dtype=np.int64))
    assert isinstance(decode_once(fits, plain_spec(28), limit_mib=1), PixelTable)
    one_more = files.take(np.zeros(342, dtype=np.int64))
    assert decode_once(one_more, plain_spec(28), limit_mib=1) is one_more


def test_a_damaged_file_is_named_by_the_cache(files, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    table = FileTable(tmp_path, np.array([b"bad.png"]), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(DataError, match=r"bad\.png: empty file"):
        decode_once(table, plain_spec(28), limit_mib=1)


def test_a_damaged_file_is_named_before_the_others_are_decoded(files, tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_bytes(b"")
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    names = np.array([b"bad.png", *[b"good.png"] * 2000])
    table = FileTable(tmp_path, names, torch.zeros(len(names), dtype=torch.int64))
    read, opened = FileTable.read, []

    def slowly(self, row):
        opened.append(row)
        time.sleep(0.001)
        return read(self, row)

    monkeypatch.setattr(FileTable, "read", slowly)
    with pytest.raises(DataError, match=r"bad\.png: empty file"):
        decode_once(table, plain_spec(28), limit_mib=100)
    assert len(opened) < 1000


def ordered(table, num_workers=0, batch_size=4, image_size=28):
    return list(
        ordered_batches(
            table,
            batch_size=batch_size,
            spec=plain_spec(image_size),
            device=CPU,
            workers=Workers(num_workers),
        )
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_file_once_in_order(files, num_workers):
    batches = ordered(files, num_workers)
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert torch.cat([b.index for b in batches]).tolist() == list(range(NUM_FILES))
    assert torch.equal(torch.cat([b.labels for b in batches]), files.labels)
    assert torch.cat([b.images for b in batches]).shape == (NUM_FILES, 3, 28, 28)
    assert all(map(equal, batches, ordered(files)))


def test_stored_pixels_are_tested_as_files_are(files):
    stored = decode_once(files, plain_spec(28), limit_mib=1)
    for one, other in zip(ordered(files), ordered(stored), strict=True):
        assert (one.images.int() - other.images.int()).abs().max() <= 1
        assert torch.equal(one.index, other.index)


def test_small_pixels_come_as_they_are():
    table = PixelTable(
        torch.arange(5 * 3 * 4).view(5, 3, 2, 2).to(torch.uint8), torch.arange(5) - 1
    )
    batches = ordered(table, batch_size=2, image_size=2)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([b.images for b in batches]), table.pixels)
    assert torch.cat([b.labels for b in batches]).tolist() == [-1, 0, 1, 2, 3]
