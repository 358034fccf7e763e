"""The profile of a step: every method is in it, its parts are all of it, its counts are right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from ssl_lt.models.patch_convolution import patchwise
from torch import nn

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALLEST = {"backbone": "resnet20_cifar", "width": 2, "batch-size": 8, "imbalance": "none"}


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """They import each other by name, as when one of them is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield


@pytest.fixture(scope="module")
def found():
    """Every method and recipe."""
    import profile_step as script

    return {
        name: script.measure(script.Step(*script.ready(name, SMALLEST)), rounds=1)
        for name in (*script.METHODS, *script.RECIPES)
    }


def test_every_method_is_there(found):
    assert [*found] == "SimCLR SDCLR BCL-I BCL-D GH BCL+GH la scl bcl rcl".split()


def test_every_part_takes_time(found):
    import step_parts

    for name, method in found.items():
        # So narrow a network has no small maps of many channels; a classifier has no plug-in.
        without = {step_parts.SMALL_MAPS} | ({step_parts.PLUGINS} if name == "la" else set())
        assert {p for p, ms in method.parts.items() if ms == 0} <= without, name


def test_parts_add_up_to_the_step():
    import step_parts

    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    x = torch.randn(4, 3, 16, 16)

    def step():
        with step_parts.scope(step_parts.VIEWS):
            twice = x * 2
        network(twice).sum().backward()

    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu) as recorded, step_parts.scope(step_parts.REST):
        step()
    events = recorded.events()
    whole = next(event for event in events if event.name.endswith(step_parts.REST))
    parts = step_parts.by_part(events)
    assert sum(parts.values()) == pytest.approx(whole.cpu_time_total / 1e3, rel=0.01)
    assert parts[step_parts.PLUGINS] == 0  # the product stands in a scope
    own = {"convolution": step_parts.FORWARD, "native_batch_norm": step_parts.NORM}
    for name, part in own.items():
        seen = next(event for event in events if event.name == f"aten::{name}")
        assert 0 < seen.cpu_time_total / 1e3 <= parts[part] * 1.01


def test_small_maps_are_told_from_other_products():
    import step_parts

    layer = patchwise(nn.Conv2d(128, 8, 3, padding=1, bias=False))
    x = torch.randn(2, 128, 4, 4, requires_grad=True)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x)
        y.float().sum().backward()

    parts = step_parts.profiled(step)
    assert parts[step_parts.SMALL_MAPS] > 0
    assert parts[step_parts.FORWARD] == parts[step_parts.BACKWARD] == 0


def test_flops_and_bytes_of_two_convolutions():
    from step_work import work_of

    task = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 4, 3, bias=False))
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(2, 3, 6, 6)

    def step():
        task(x).sum().backward()
        optimizer.step()

    work = work_of(step, task, optimizer)
    # Two for each product and sum: batch x pixels x channels out x channels in x kernel.
    first, second = 2 * 2 * 36 * 8 * 3 * 9, 2 * 2 * 16 * 4 * 8 * 9
    assert [layer.flops for layer in reversed(work.layers)] == [first, second]
    # Images need no gradient, so the first goes through two products and the second through three.
    assert (work.conv_flops, work.other_flops) == (2 * first + 3 * second, 0)
    assert work.saved_bytes == 4 * (2 * 3 * 36 + 2 * 8 * 36)  # the input of either
    weights = 3 * 8 * 9 + 8 * 4 * 9
    assert work.weight_bytes == 4 * 3 * weights  # weights, gradients, momentum


def test_methods_cost_what_their_views_cost(found):
    """SDCLR convolves as much as SimCLR, three views half as much again."""
    flops = {name: method.work.conv_flops for name, method in found.items()}
    assert len({flops[name] for name in ("SimCLR", "SDCLR", "BCL-I", "BCL-D", "GH", "BCL+GH")}) == 1
    assert flops["la"] * 2 == flops["SimCLR"]
    assert flops["la"] * 3 == flops["rcl"] == flops["bcl"] == flops["scl"]


def test_tables_have_every_method(found):
    import profile_step as script
    from machine_rates import Alone, Rates

    layers = Counter(layer for method in found.values() for layer in method.work.layers)
    times = dict.fromkeys(layers, Alone(1.0, 2.0, 3.0))
    rates = Rates(bf16=1e9, fp32=1e9, memory=1e9)
    parts = script.parts_table(found, times)
    assert parts[0] == f"| a step, ms | {' | '.join(found)} |"
    limits = script.limits_table(found, times, rates, 1e9)
    assert [line.split("|")[1].strip() for line in limits[2:]] == [*found]
    for name, method in found.items():
        shown = script.columns(method.parts, Alone(1.0, 2.0, 3.0))
        assert sum(shown.values()) == pytest.approx(sum(method.parts.values())), name
        assert shown["conv to weight"] == pytest.approx(1.5 * shown["conv to input"])
