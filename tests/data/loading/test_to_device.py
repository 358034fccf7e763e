"""Batches on their way to the device."""

from contextlib import nullcontext

import pytest
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.core.random import drawn_rows
from ssl_lt.data.loading import to_device
from ssl_lt.data.loading.to_device import one_ahead

CPU = torch.device("cpu")


def test_each_item_is_handed_out_once_the_one_after_it_is_there():
    made = []

    def items():
        for number in range(4):
            made.append(number)
            yield number

    seen = [(item, len(made)) for item in one_ahead(items())]
    assert seen == [(0, 2), (1, 3), (2, 4), (3, 4)]
    assert list(one_ahead([])) == []
    assert list(one_ahead([7])) == [7]


def fetched(number):
    index = torch.arange(2) + number
    return torch.full((2, 1, 3, 4, 4), number, dtype=torch.uint8), index % 2, index


class NoStream:
    """In place of a CUDA stream, where there is none."""

    def __init__(self, device=None):
        self.waited_for = []

    def record_event(self):
        return "arrived"

    def wait_event(self, event):
        self.waited_for.append(event)


@pytest.fixture(params=["as they come", "sent ahead"])
def deliver(request, monkeypatch):
    """`on_device`; and what it does on CUDA, with streams that do nothing."""
    if request.param == "as they come":
        return to_device.on_device
    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", NoStream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    return to_device._sent_ahead


def test_batches_come_in_order_and_errors_after_those_in_front(deliver):
    batches = deliver([fetched(0), fetched(5), DataError("a.jpg: bad")], device=CPU)
    for number in (0, 5):
        batch = next(batches)
        assert (batch.images == number).all()
        assert batch.index.tolist() == [number, number + 1]
        assert batch.labels.tolist() == [number % 2, (number + 1) % 2]
    with pytest.raises(DataError, match=r"\Aa\.jpg: bad\Z"):
        next(batches)


def test_a_batch_is_not_used_before_it_has_arrived(monkeypatch):
    computing = NoStream()
    used = []
    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda part, by: used.append((part, by)))
    batch = next(to_device._sent_ahead([fetched(0), fetched(5)], device=CPU))
    assert computing.waited_for == ["arrived"]
    assert [by for _, by in used] == [computing] * 3
    assert used[0][0] is batch.images


def test_rows_that_come_again_keep_their_draw():
    images, labels, _ = fetched(0)
    drawn = drawn_rows(torch.tensor([3, 3]), torch.tensor([0, 2]))
    (batch,) = to_device.on_device([(images, labels, drawn)], device=CPU)
    assert batch.index.tolist() == [3, 3]
    assert batch.draw.tolist() == [0, 2]
