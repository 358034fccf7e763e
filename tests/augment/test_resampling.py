"""Matrices that resize: what their rows weigh, and that looking them up changes nothing."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.augment import resampling
from ssl_lt.augment.resampling import resampling_matrix


def test_rows_sum_to_one_and_stay_inside_the_crop():
    starts, lengths = torch.tensor([3, 0, 30]), torch.tensor([20, 40, 1])
    for mode in ("bilinear", "bicubic"):
        weights = resampling_matrix(starts, lengths, size=8, extent=40, interpolation=mode)
        torch.testing.assert_close(weights.sum(2), torch.ones(3, 8))
        for row, start, length in zip(weights, starts, lengths, strict=True):
            outside = torch.ones(40, dtype=torch.bool)
            outside[start : start + length] = False
            assert (row[:, outside] == 0).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "extent"), [(8, 8), (32, 32), (12, 32), (40, 20)])
def test_a_matrix_that_is_looked_up_is_the_one_that_is_computed(monkeypatch, mode, size, extent):
    lengths, starts = torch.cartesian_prod(torch.arange(1, extent + 1), torch.arange(extent)).T
    inside = starts + lengths <= extent
    lengths, starts = lengths[inside], starts[inside]
    flips = torch.rand(len(starts), generator=torch.Generator().manual_seed(0)) < 0.5
    crops = {"size": size, "extent": extent, "interpolation": mode}
    looked_up = [resampling_matrix(starts, lengths, flips=f, **crops) for f in (flips, None)]
    assert resampling._table.cache_info().currsize
    monkeypatch.setattr(resampling, "_TABLE_BYTES", 0)
    computed = [resampling_matrix(starts, lengths, flips=f, **crops) for f in (flips, None)]
    assert all(map(torch.equal, looked_up, computed))


def test_matrices_of_large_images_are_not_kept(monkeypatch):
    def refuse(*_):
        raise AssertionError("a table of several gigabytes")

    monkeypatch.setattr(resampling, "_table", refuse)
    starts, lengths = torch.tensor([3, 40]), torch.tensor([200, 60])
    weights = resampling_matrix(starts, lengths, size=224, extent=256, interpolation="bicubic")
    assert weights.shape == (2, 224, 256)
