import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import permutation
from ssl_lt.data.loading import plan as loaders
from ssl_lt.data.loading.plan import BatchSchedule, TrainLoader
from ssl_lt.data.tables.table import PixelTable

CPU = torch.device("cpu")


@pytest.fixture
def table():
    rows = torch.arange(23)
    pixels = rows.to(torch.uint8)[:, None, None, None].expand(23, 3, 4, 4).contiguous()
    return PixelTable(pixels, rows % 5)


def make(table, batch_size=4, seed=1):
    return TrainLoader(table, BatchSchedule(len(table), batch_size, seed), device=CPU)


def test_a_batch_holds_the_rows_it_names(table):
    for batch in make(table).epoch(0):
        assert batch.images.shape == (4, 3, 4, 4)
        assert batch.images.dtype == torch.uint8
        assert batch.index.dtype == batch.labels.dtype == torch.int64
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.index)
        assert torch.equal(batch.labels, batch.index % 5)


def test_an_epoch_is_the_permutation_cut_into_whole_batches(table):
    loader = make(table)
    assert (loader.plan.num_samples, loader.batch_size, loader.steps_per_epoch) == (23, 4, 5)
    for number in (0, 3):
        seen = torch.cat([batch.index for batch in loader.epoch(number)])
        assert torch.equal(seen, permutation(23, seed=1, epoch=number)[:20])


def test_epochs_and_seeds_differ_and_calls_do_not(table):
    first, again, later = ([b.index for b in make(table).epoch(n)] for n in (0, 0, 1))
    other = [b.index for b in make(table, seed=2).epoch(0)]
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(later))
    assert not torch.equal(torch.cat(first), torch.cat(other))


def test_dropped_rows_come_in_other_epochs(table):
    seen = {int(i) for epoch in range(10) for b in make(table).epoch(epoch) for i in b.index}
    assert seen == set(range(23))


def test_starting_later_is_skipping(table):
    everything = list(make(table).epoch(2))
    for first in range(6):
        rest = list(make(table).epoch(2, first_step=first))
        assert len(rest) == 5 - first
        for batch, want in zip(rest, everything[first:], strict=True):
            assert torch.equal(batch.index, want.index)
            assert torch.equal(batch.images, want.images)


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_ranks_together_are_one_process(table, monkeypatch, ranks):
    whole = [batch.index for batch in make(table).epoch(1)]
    shares = []
    monkeypatch.setattr(loaders, "world_size", lambda: ranks)
    for rank in range(ranks):
        monkeypatch.setattr(loaders, "rank", lambda rank=rank: rank)
        shares.append([batch.index for batch in make(table).epoch(1)])
    assert all(len(part) == 4 // ranks for share in shares for part in share)
    for want, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat(parts), want)


def test_batches_that_cannot_be_made_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="--batch-size 24: the training set has only 23 images"):
        BatchSchedule(23, 24, 0)
    with pytest.raises(ConfigError, match="--batch-size 0: must be 1 or more"):
        BatchSchedule(23, 0, 0)
    monkeypatch.setattr(loaders, "world_size", lambda: 3)
    with pytest.raises(ConfigError, match="--batch-size 4: must be a multiple of the 3 processes"):
        BatchSchedule(23, 4, 0)


def test_the_table_is_not_copied_or_changed(table):
    loader = make(table)
    assert loader.pixels.data_ptr() == table.pixels.data_ptr()
    before = table.pixels.clone()
    for batch in loader.epoch(0):
        batch.images.fill_(0)
    assert torch.equal(table.pixels, before)


def test_taking_rows_copies_them(table):
    rows = np.array([3, 1])
    taken = table.take(rows)
    assert taken.pixels[:, 0, 0, 0].tolist() == [3, 1]
    assert taken.labels.tolist() == [3, 1]
