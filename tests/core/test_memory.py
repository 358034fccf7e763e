"""A memory is saved and taken over as it was."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.core.memory import SampleMemory, first_rows


def memory():
    return SampleMemory("boost", {"average": torch.arange(5.0), "seen": torch.ones(5) > 0})


def test_state_round_trip():
    other = SampleMemory("boost", {"average": torch.zeros(5), "seen": torch.zeros(5) > 0})
    other.load_state_dict(memory().state_dict())
    assert torch.equal(other.tables["average"], torch.arange(5.0))
    assert other.tables["seen"].all()


def test_keeps_its_own_dtype():
    own = memory()
    own.load_state_dict({"average": torch.ones(5, dtype=torch.float64), "seen": torch.zeros(5)})
    assert own.tables["average"].dtype == torch.float32
    assert own.tables["seen"].dtype == torch.bool


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seen": torch.ones(5)}, r"boost\.average: missing, expected \(5,\)"),
        ({"average": torch.ones(4), "seen": torch.ones(5)}, r"boost\.average: \(4,\), expected"),
    ],
)
def test_refuses_another_memory_and_stays_as_it_was(state, message):
    own = memory()
    with pytest.raises(ValueError, match=message):
        own.load_state_dict(state)
    assert torch.equal(own.tables["average"], torch.arange(5.0))


def test_to_moves_every_table():
    own = memory()
    own.to(torch.device("meta"))
    assert {table.device.type for table in own.tables.values()} == {"meta"}


def test_rows_of_a_sample_share_its_first():
    index = torch.tensor([7, 2, 7, 0, 2, 7])
    assert first_rows(index).tolist() == [0, 1, 0, 3, 1, 0]
    assert first_rows(index[:0]).tolist() == []
