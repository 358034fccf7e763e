from __future__ import annotations

import pytest
import torch

from ssl_lt.core.random import drawn_rows
from ssl_lt.data.loading.class_sampled_plan import ClassSampledPlan
from ssl_lt.data.loading.paired_plan import PairedPlan
from ssl_lt.data.loading.plan import BatchSchedule
from tests.distributed.pool import run_on_two

LABELS = torch.arange(4).repeat_interleave(torch.tensor([40, 14, 6, 4]))
NUM_SAMPLES, BATCH_SIZE, SEED = len(LABELS), 8, 3


def balanced(epoch):
    return torch.ones(4)


def plans():
    own = BatchSchedule(NUM_SAMPLES, BATCH_SIZE, SEED)
    sampled = ClassSampledPlan(NUM_SAMPLES, BATCH_SIZE, SEED, LABELS, balanced)
    return [PairedPlan(NUM_SAMPLES, BATCH_SIZE, SEED, images, LABELS) for images in (own, sampled)]


@pytest.mark.parametrize("plan", plans(), ids=["every image", "sampled"])
def test_images_come_as_before_and_partners_from_every_class_alike(plan):
    rows = plan.rows(1)
    assert rows.shape == (8, 16)
    assert torch.equal(rows[:, :8], plan.images.rows(1))
    assert torch.bincount(LABELS[rows[:, 8:]].flatten()).tolist() == pytest.approx([16] * 4, abs=2)
    assert not torch.equal(rows[:, :8], rows[:, 8:])
    assert (plan.batch_size, plan.steps_per_epoch) == (8, 8)


@pytest.mark.parametrize("plan", plans(), ids=["every image", "sampled"])
def test_no_two_in_an_epoch_are_augmented_alike(plan):
    drawn = drawn_rows(plan.rows(0), plan.draws(0)).flatten()
    assert len(drawn.unique()) == len(drawn)
    own = plan.images.draws(0)
    assert torch.equal(plan.draws(0)[:, :8], torch.zeros(8, 8).long() if own is None else own)


@pytest.mark.parametrize("plan", plans(), ids=["every image", "sampled"])
def test_an_epoch_is_a_function_of_its_number(plan):
    assert torch.equal(plan.rows(2), plan.rows(2))
    assert not torch.equal(plan.rows(2)[:, 8:], plan.rows(3)[:, 8:])


def test_a_class_without_images_is_never_drawn():
    labels = torch.tensor([0, 0, 0, 2, 2, 2, 2, 4])
    plan = PairedPlan(8, 4, 0, BatchSchedule(8, 4, 0), labels)
    assert set(labels[plan.rows(0)[:, 4:]].flatten().tolist()) == {0, 2, 4}


def _of_a_rank(rank):
    return [(plan.rows(1), plan.draws(1)) for plan in plans()]


@pytest.mark.distributed
def test_two_processes_share_the_pairs_of_one():
    for first, second, plan in zip(*run_on_two(_of_a_rank), plans(), strict=True):
        for number, whole in enumerate((plan.rows(1), plan.draws(1))):
            parts = torch.stack((first[number], second[number]), dim=1).view(8, 2, 2, 4)
            together = parts.transpose(1, 2).reshape(8, 16)
            assert torch.equal(together, whole)
