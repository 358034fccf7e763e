"""Rows drawn by class: against loops, for how often they come, and for who gets which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from ssl_lt.augment.views import SMALL_IMAGE_VIEW, WorkerCrop
from ssl_lt.core.random import drawn_rows, permutation, row_and_draw, sample_keys
from ssl_lt.core.types import Batch
from ssl_lt.data.images.crops import crop_then_resize
from ssl_lt.data.loading import plan as loaders
from ssl_lt.data.loading.class_sampled_plan import ClassSampledPlan, drawn_classes, rows_of_classes
from ssl_lt.data.loading.plan import BatchSchedule, TrainLoader
from ssl_lt.data.loading.worker_loader import WorkerLoader
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.table import PixelTable
from tests.toolbox import plain_spec

CPU = torch.device("cpu")
COUNTS = (50, 20, 9, 4, 1)
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS))
LABELS = LABELS[permutation(len(LABELS), seed=9, epoch=0)]
BALANCED = torch.full((5,), 0.2)


def plan(rates=lambda epoch: BALANCED, *, labels=LABELS, batch_size=8, seed=1):
    return ClassSampledPlan(len(labels), batch_size, seed, labels, rates)


def occurrences(rows):
    """How often each row has come before, by counting."""
    seen = {}
    return [seen.setdefault(row, []).append(0) or len(seen[row]) - 1 for row in rows]


# --- the drawing


@pytest.mark.parametrize("rates", [BALANCED, torch.tensor([0.7, 0.1, 0.1, 0.07, 0.03])])
def test_every_epoch_has_each_class_in_its_share(rates):
    for epoch in range(5):
        drawn = torch.bincount(drawn_classes(rates, 999, seed=0, epoch=epoch), minlength=5)
        assert (drawn - 999 * rates).abs().max() < 2
        assert drawn.sum() == 999


def test_the_first_draws_of_many_epochs_follow_the_rates():
    rates = torch.tensor([0.5, 0.25, 0.15, 0.06, 0.04], dtype=torch.float64)
    first = torch.cat([drawn_classes(rates, 84, seed=3, epoch=e)[:8] for e in range(500)])
    observed = torch.bincount(first, minlength=5).numpy()
    assert stats.chisquare(observed, (4000 * rates).numpy()).pvalue > 1e-3


def test_neighbours_in_an_epoch_are_independent():
    pairs = torch.zeros(2, 2)
    for epoch in range(20):
        drawn = drawn_classes(torch.tensor([0.5, 0.5]), 500, seed=0, epoch=epoch)
        pairs.view(-1).index_add_(0, 2 * drawn[:-1] + drawn[1:], torch.ones(499))
    assert stats.chisquare(pairs.flatten().numpy()).pvalue > 1e-3


def test_the_rates_need_not_sum_to_one_and_a_rate_of_zero_is_never_drawn():
    rates = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0])
    drawn = drawn_classes(rates, 400, seed=0, epoch=0)
    assert torch.bincount(drawn, minlength=5).tolist() == [0, 300, 0, 100, 0]
    tiny = drawn_classes(rates * 1e-30, 400, seed=0, epoch=0)
    assert torch.equal(tiny, drawn)


def test_classes_are_those_of_the_inverse_cdf():
    """Class of each stratum, by walking up the cumulative rates."""
    rates = [0.45, 0.05, 0.3, 0.2]
    drawn = drawn_classes(torch.tensor(rates), 40, seed=4, epoch=2)
    for place, stratum in zip(drawn, permutation(40, seed=4, epoch=2).tolist(), strict=True):
        low = next(j for j in range(4) if sum(rates[: j + 1]) > stratum / 40 + 1e-9)
        high = next(j for j in range(4) if sum(rates[: j + 1]) > (stratum + 1) / 40 - 1e-9)
        assert low <= place <= high


def test_a_class_goes_through_all_its_rows_before_one_comes_again():
    classes = drawn_classes(BALANCED, len(LABELS), seed=1, epoch=3)
    rows, draws = rows_of_classes(classes, LABELS, seed=1, epoch=3)
    assert torch.equal(LABELS[rows], classes)
    assert draws.tolist() == occurrences(rows.tolist())
    times = torch.bincount(rows, minlength=len(LABELS))
    for j in range(5):
        of_class = times[torch.eq(LABELS, j)]
        assert of_class.max() - of_class.min() <= 1
        assert abs(of_class.sum() - len(LABELS) / 5) < 2


def test_which_rows_of_a_large_class_come_is_another_choice_in_each_epoch():
    times = torch.zeros(len(LABELS))
    for epoch in range(400):
        classes = drawn_classes(BALANCED, len(LABELS), seed=1, epoch=epoch)
        rows, _ = rows_of_classes(classes, LABELS, seed=1, epoch=epoch)
        times += torch.bincount(rows, minlength=len(LABELS))
    largest = times[torch.eq(LABELS, 0)].numpy()
    # Without replacement the spread is smaller than chi-square's: only too much of it is wrong.
    assert stats.chisquare(largest).pvalue > 1e-3
    assert len(set(largest)) > 1


def test_classes_without_rows_at_the_end_or_in_between():
    labels = torch.tensor([0, 0, 2, 2, 2])
    classes = torch.tensor([2, 0, 2, 2, 2, 0])
    rows, draws = rows_of_classes(classes, labels, seed=0, epoch=0)
    assert torch.equal(labels[rows], classes)
    assert sorted(rows[classes == 2][:3].tolist()) == [2, 3, 4]
    assert draws.tolist() == [0, 0, 0, 0, 1, 0]


# --- names of draws


def test_the_first_draw_of_a_row_is_the_row_itself():
    index = torch.tensor([0, 7, 2**40 - 1])
    assert torch.equal(drawn_rows(index, torch.zeros_like(index)), index)
    assert Batch(index, index, index).drawn is index


def test_names_of_draws_can_be_read_and_have_streams_of_their_own():
    index = torch.arange(30).repeat(20)
    draw = torch.arange(20).repeat_interleave(30)
    drawn = drawn_rows(index, draw)
    for found, want in zip(row_and_draw(drawn), (index, draw), strict=True):
        assert torch.equal(found, want)
    assert len(sample_keys(drawn, seed=1, epoch=2, view=0).unique()) == 600


# --- the plan


def test_an_epoch_is_a_function_of_seed_epoch_and_rates():
    first, again = plan().rows(2), plan().rows(2)
    assert torch.equal(first, again)
    assert first.shape == (10, 8)
    rising = torch.arange(1.0, 6)
    for other in (plan().rows(3), plan(seed=2).rows(2), plan(lambda epoch: rising).rows(2)):
        assert not torch.equal(first, other)


def test_before_its_time_the_plan_is_the_plain_one_bit_for_bit():
    late = plan(lambda epoch: BALANCED if epoch >= 2 else None)
    plain = BatchSchedule(len(LABELS), 8, 1)
    for epoch in (0, 1):
        assert torch.equal(late.rows(epoch), plain.rows(epoch))
        assert late.draws(epoch) is None is plain.draws(epoch)
    assert torch.equal(late.rows(2), plan().rows(2))
    assert late.steps_per_epoch == plain.steps_per_epoch


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_ranks_together_are_one_process(monkeypatch, ranks):
    rows, draws = plan().rows(1), plan().draws(1)
    monkeypatch.setattr(loaders, "world_size", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(loaders, "rank", lambda rank=rank: rank)
        shares.append((plan().rows(1), plan().draws(1)))
    assert torch.equal(torch.cat([share[0] for share in shares], dim=1), rows)
    assert torch.equal(torch.cat([share[1] for share in shares], dim=1), draws)


def test_draws_count_over_all_ranks_and_steps():
    made = plan()
    rows, draws = made.rows(0).flatten(), made.draws(0).flatten()
    assert draws.tolist() == occurrences(rows.tolist())
    assert draws.max() >= 10  # the one picture of the last class; four draws are left out


# --- the loaders


def pixel_table():
    pixels = torch.arange(len(LABELS), dtype=torch.uint8)[:, None, None, None]
    return PixelTable(pixels.expand(-1, 3, 4, 4).contiguous(), LABELS)


def test_batches_in_memory_hold_rows_and_draws():
    loader = TrainLoader(pixel_table(), plan(), device=CPU)
    batches = list(loader.epoch(1))
    assert torch.equal(torch.stack([b.index for b in batches]), plan().rows(1))
    assert torch.equal(torch.stack([b.draw for b in batches]), plan().draws(1))
    for batch in batches:
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.index)
        assert torch.equal(batch.labels, LABELS[batch.index])
        assert torch.equal(batch.drawn, drawn_rows(batch.index, batch.draw))
    rest = list(loader.epoch(1, first_step=7))
    assert [b.drawn.tolist() for b in rest] == [b.drawn.tolist() for b in batches[7:]]


@pytest.fixture
def files(tmp_path):
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    generator = np.random.default_rng(0)
    names = []
    for number in range(6):
        names.append(f"{number}.png".encode())
        pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return FileTable(tmp_path, np.array(names), labels)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_workers_cut_a_row_that_comes_again_elsewhere(files, num_workers):
    crop = WorkerCrop((SMALL_IMAGE_VIEW,), seed=5)
    halves = plan(lambda epoch: torch.tensor([0.5, 0.5]), labels=files.labels, batch_size=3)
    loader = WorkerLoader(
        files, crop, halves, spec=plain_spec(8), device=CPU, workers=Workers(num_workers)
    )
    batches = list(loader.epoch(0))
    images, index, drawn = (
        torch.cat([getattr(b, name) for b in batches]) for name in ("images", "index", "drawn")
    )
    assert torch.equal(index, halves.rows(0).flatten())
    assert torch.equal(torch.cat([b.draw for b in batches]), halves.draws(0).flatten())
    for image, row, name in zip(images, index.tolist(), drawn.tolist(), strict=True):
        picture = files.read(row)
        (boxes,) = crop.boxes(0, [name], [(picture.height, picture.width)])
        assert torch.equal(image, crop_then_resize(picture, boxes, size=8))
    rare = images[index == 5]
    assert len(rare) == 3
    assert not torch.equal(rare[0], rare[1])
    if num_workers == 0:
        again = list(loader.epoch(0, first_step=1))
        assert torch.equal(again[0].images, batches[1].images)
