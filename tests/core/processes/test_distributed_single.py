"""With one process every function is the identity, and gradients pass."""

from __future__ import annotations

import torch

from ssl_lt.core.processes import distributed


def test_one_process_is_rank_0_of_1():
    assert distributed.world_size() == 1
    assert distributed.rank() == 0


def test_gathered_rows_are_the_rows_with_gradient():
    rows = torch.randn(4, 3, requires_grad=True)
    gathered = distributed.gather_rows(rows)
    assert gathered is rows
    (2 * gathered).sum().backward()
    assert torch.equal(rows.grad, torch.full((4, 3), 2.0))


def test_own_rows_are_all_rows():
    own = distributed.own_rows(3, device=torch.device("cpu"))
    assert own.tolist() == [0, 1, 2]
    assert own.dtype == torch.int64


def test_votes_and_sums_of_one():
    assert distributed.all_true(torch.tensor(True))
    assert not distributed.all_true(torch.tensor(False))
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    assert torch.equal(distributed.mean_over_ranks(values), values)
    distributed.sum_over_ranks(values).sum().backward()
    assert torch.equal(values.grad, torch.ones(2))
