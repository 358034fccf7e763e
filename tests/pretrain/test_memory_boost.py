"""The moving averages and weights against the released run, and what a resumed run must keep."""

from __future__ import annotations

import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import slots
from ssl_lt.core.types import Epoch
from ssl_lt.losses.memorization import averaged_loss, boost_weights
from ssl_lt.pretrain.memory_boost import MemoryBoost, MemoryBoostOptions
from ssl_lt.pretrain.two_views import PairStep

EPOCH = Epoch(number=0, total=6, steps=5)


def step(index, losses):
    z = torch.zeros(len(index), 2)
    return PairStep(torch.as_tensor(index), z, z, torch.as_tensor(losses), EPOCH)


def plugin(num_samples=6, **options):
    return MemoryBoost(MemoryBoostOptions(**options), num_samples=num_samples)


def test_released_run_is_reproduced(golden):
    data = golden("pretraining/bcl_memory.npz")
    boost = plugin(37, beta=float(data["beta"]))
    tables = boost.memory.tables
    tables["average"] = tables["average"].double()
    everyone = torch.arange(37)
    assert torch.equal(boost.strength(everyone), torch.zeros(37))
    for epoch in range(6):
        losses = torch.from_numpy(data["per_sample_loss"][epoch])
        for index in torch.from_numpy(data["visit_order"][epoch]).split(int(data["batch_size"])):
            boost.observe(step(index, losses[index]))
        average = torch.from_numpy(data["M"][epoch])
        torch.testing.assert_close(tables["average"], average, rtol=1e-10, atol=0)
        boost.on_epoch_end(EPOCH)
        weight = torch.from_numpy(data["weight"][epoch])
        torch.testing.assert_close(boost.strength(everyone), weight, rtol=1e-10, atol=1e-15)


def test_single_precision_stays_close_to_the_released_run(golden):
    data = golden("pretraining/bcl_memory.npz")
    boost = plugin(37)
    for losses in data["per_sample_loss"]:
        boost.observe(step(torch.arange(37), losses))
        boost.on_epoch_end(EPOCH)
    weight = torch.from_numpy(data["weight"][-1]).float()
    torch.testing.assert_close(boost.scores()["memorisation"], weight, rtol=1e-5, atol=1e-6)


def weights_oracle(averages):
    """From the equation, one sample after the other; None where nothing is known."""
    known = [a for a in averages if a is not None]
    mean = sum(known) / len(known)
    largest = max(abs(a - mean) for a in known)
    return [0.5 if a is None else 0.5 + 0.5 * (a - mean) / largest for a in averages]


def test_weights_leave_out_samples_not_seen():
    averages = [3.0, None, 1.0, 7.5, None]
    average = torch.tensor([a or 1e6 for a in averages], dtype=torch.float64)
    seen = torch.tensor([a is not None for a in averages])
    expected = torch.tensor(weights_oracle(averages), dtype=torch.float64)
    torch.testing.assert_close(boost_weights(average, seen), expected, rtol=1e-12, atol=0)


def test_weights_ignore_scale_and_offset():
    average = torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = torch.ones(100, dtype=torch.bool)
    weights = boost_weights(average, seen)
    torch.testing.assert_close(boost_weights(3 * average + 2, seen), weights, rtol=1e-9, atol=1e-9)
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert weights.min() == 0 or weights.max() == 1


@pytest.mark.parametrize("num_seen", [0, 1, 4])
def test_equal_or_no_losses_give_one_half(num_seen):
    weights = boost_weights(torch.full((4,), 2.0), torch.arange(4) < num_seen)
    assert torch.equal(weights, torch.full((4,), 0.5))


def test_average_starts_at_the_first_loss():
    got = averaged_loss(
        torch.tensor([0.0, 2.0]), torch.tensor([False, True]), torch.tensor([5.0, 4.0]), beta=0.75
    )
    assert got.tolist() == [5.0, 2.5]


def test_sample_seen_for_the_first_time_in_a_later_epoch_starts_there():
    boost = plugin()
    boost.observe(step([0, 1, 2], [1.0, 2.0, 3.0]))
    boost.on_epoch_end(EPOCH)
    assert boost.strength(torch.tensor([3, 5])).tolist() == [0.5, 0.5]
    boost.observe(step([3], [9.0]))
    assert boost.memory.tables["average"][3] == 9
    assert boost.memory.tables["seen"].tolist() == [True] * 4 + [False] * 2


def test_sample_twice_in_a_batch_counts_once_with_its_first_loss():
    boost = plugin(beta=0.5)
    boost.observe(step([4], [1.0]))
    boost.observe(step([2, 4, 0, 4, 2, 4], [1.0, 3.0, 5.0, 100.0, 200.0, 300.0]))
    average = boost.memory.tables["average"]
    assert average[[0, 2, 4]].tolist() == [5.0, 1.0, 2.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_left_out(bad):
    boost = plugin()
    boost.observe(step([0, 1], [1.0, 2.0]))
    boost.observe(step([1, 2], [bad, bad]))
    assert boost.memory.tables["average"][1] == 2
    assert not boost.memory.tables["seen"][2]
    boost.on_epoch_end(EPOCH)
    assert boost.scores()["memorisation"].isfinite().all()


def test_weights_wait_for_the_end_of_the_epoch():
    boost = plugin(2)
    index = torch.tensor([0, 1])
    boost.observe(step(index, [1.0, 2.0]))
    assert boost.strength(index).tolist() == [0, 0]
    boost.on_epoch_end(EPOCH)
    assert boost.strength(index).tolist() == [0, 1]
    boost.observe(step(index, [100.0, 0.0]))
    assert boost.strength(index).tolist() == [0, 1]


def test_memory_keeps_no_graph():
    boost = plugin(2)
    losses = torch.ones(2, requires_grad=True)
    boost.observe(step([0, 1], losses * 2))
    assert not boost.memory.tables["average"].requires_grad


def test_resume_inside_an_epoch_continues_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randperm(20, generator=generator)[:8], torch.rand(8, generator=generator))
        for _ in range(12)
    ]

    def train(boost, start, stop):
        used = []
        for number in range(start, stop):
            used.append(boost.strength(batches[number][0]))
            boost.observe(step(*batches[number]))
            if number % 4 == 3:
                boost.on_epoch_end(EPOCH)
        return used

    straight, stopped, resumed = plugin(20), plugin(20), plugin(20)
    expected = train(straight, 0, 12)[6:]
    train(stopped, 0, 6)
    (memory,) = stopped.memories()
    state = {name: table.clone() for name, table in memory.state_dict().items()}
    resumed.memories()[0].load_state_dict(state)
    got = train(resumed, 6, 12)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    for name, table in straight.memory.tables.items():
        assert torch.equal(resumed.memory.tables[name], table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 1.0}, r"--bcl\.beta: 1\.0"),
        ({"beta": -0.1}, r"--bcl\.beta: -0\.1"),
        ({"beta": float("nan")}, r"--bcl\.beta: nan"),
        ({"num_ops": 0}, r"--bcl\.num-ops: 0"),
        ({"rule": "mine"}, r"--bcl\.rule: 'mine'"),
    ],
)
def test_bad_options_name_their_flag(options, message):
    with pytest.raises(ConfigError, match=message):
        MemoryBoostOptions(**options)


# --- a table of fixed size


def test_slots_are_a_memory_of_the_samples_that_share_them():
    small, large = plugin(200, slots=64), plugin(200)
    place = slots(torch.arange(200), num_slots=64)
    for losses in torch.rand(3, 200):
        # As many rows as there are slots, one sample of each: the same as a memory of its own.
        for sample in range(200):
            small.observe(step([sample], losses[sample : sample + 1]))
            large.observe(step([int(place[sample])], losses[sample : sample + 1]))
        small.on_epoch_end(EPOCH)
    for name in ("average", "seen"):
        assert torch.equal(small.memory.tables[name], large.memory.tables[name][:64])
    weight = small.memory.tables["weight"]
    assert weight.shape == (64,)
    assert torch.equal(small.strength(torch.tensor([3, 150])), weight[place[[3, 150]]])
    assert torch.equal(small.scores()["memorisation"], weight[place])


def test_of_samples_in_one_slot_the_first_of_a_batch_counts():
    boost = plugin(2, slots=1)
    boost.observe(step([1, 0], [5.0, 7.0]))
    assert boost.memory.tables["average"].tolist() == [5.0]


def test_fewer_slots_than_none_are_refused():
    with pytest.raises(ConfigError, match=r"--bcl.slots: -1 is below 0"):
        MemoryBoostOptions(slots=-1)
