"""Rows of two processes, gathered with gradient."""

import pytest
import torch
import torch.distributed as dist

from ssl_lt.core.kmeans import kmeans
from ssl_lt.core.processes.distributed import from_first_rank, gather_rows, own_rows
from tests.distributed.pool import run_on_two

pytestmark = pytest.mark.distributed


def _gradients(rank):
    """Gradients by the ranks' rows and by what is added to all of them, which is the rank's own."""
    own = torch.tensor([[1.0 + 2 * rank], [2.0 + 2 * rank]], requires_grad=True)
    added = torch.full((4, 1), 10.0 * rank, requires_grad=True)
    first = added * 1.0  # a node made before `gather_rows` is its own: its turn comes later
    (gather_rows(own) + first).square().sum().backward()
    return own.grad, added.grad, own_rows(2, device=own.device)


def test_gradients_of_gathered_rows_and_of_what_is_added_to_them():
    gathered = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    summed = 2 * gathered + 2 * (gathered + 10)
    for rank, (own, added, rows) in enumerate(run_on_two(_gradients)):
        torch.testing.assert_close(added, 2 * (gathered + 10 * rank))
        torch.testing.assert_close(own, summed[rows])


def _clusters(rank):
    """Of points that differ from rank to rank, as they would if the machines did."""
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(rank))
    own = kmeans(points, 4, seed=1, iterations=20)
    return own, from_first_rank(lambda: kmeans(points, 4, seed=1, iterations=20), like=own)


def test_what_the_first_rank_finds_holds_on_all():
    (first, said_first), (second, said_second) = run_on_two(_clusters)
    assert torch.equal(said_first, first)
    assert torch.equal(said_second, first)
    assert not torch.equal(second, first)


def _gathered(rank):
    """By the newest name of the collective, and by that of before torch 2.14."""
    rows = torch.arange(6.0).view(3, 2) + 10 * rank
    newest = gather_rows(rows)
    if hasattr(dist, "all_gather_single"):
        del dist.all_gather_single
    return newest, gather_rows(rows)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_rows_are_the_same_by_either_name_of_the_collective():
    for newest, before in run_on_two(_gathered):
        assert newest[:, 0].tolist() == [0, 2, 4, 10, 12, 14]
        assert torch.equal(newest, before)
