"""A run on shards that is stopped in the middle of one sees every sample of the epoch once."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_lt.cli.main import run_command
from ssl_lt.data.loading.shard_plan import ShardPlan
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_source
from ssl_lt.pretrain.two_views import TwoViewTask
from tests.faults.process import Child
from tests.faults.tiny_runs import assert_same_run
from tests.toolbox import succeed, write_picture

STEPS = 16  # an epoch: a fifth of the images is there to test on

WORDS = shlex.split(
    "--data wds:packed --shard-cache cache --cache-mib 0 --shard-streams 4 --shard-window 64 "
    "--image-size 16 --width 4 --batch-size 32 --epochs 2 --warmup-epochs 1 --num-workers 1 "
    "--mixed-precision no --log-every 1 --knn-every 0 --plugins bcl --bcl.slots 256"
)


def train(words: list[str], seen: str) -> None:
    """`ssl-lt pretrain`; every step adds a line with its samples to a file."""
    forward = TwoViewTask.forward

    def noted(self, batch):
        with Path(seen).open("a") as file:
            file.write(" ".join(map(str, batch.index.tolist())) + "\n")
        return forward(self, batch)

    TwoViewTask.forward = noted
    run_command("pretrain", words)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of two classes in shards of 50: packed/."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(645):
        write_picture(folder / "photos" / "ab"[number % 2] / f"{number:03}.png", number)
    shards = ("--images-per-shard", "50")
    succeed("data", "pack", f"folder:{folder}/photos", folder / "packed", *shards)
    return folder


def read_order(path: Path) -> list[list[int]]:
    return [[int(row) for row in line.split()] for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_stopped_in_the_middle_of_a_shard_no_sample_is_lost_or_doubled(place, monkeypatch):
    monkeypatch.chdir(place)
    # How many processes load makes no difference, and one that does takes seconds to start.
    words = [*WORDS, "--num-workers", "0", "--run-dir", "alone"]
    alone = Child(place, train, words, "alone.txt")
    stopped = Child(place, train, [*WORDS, "--run-dir", "stopped"], "stopped.txt")
    for lines in (7, STEPS + 6):  # of two epochs
        stopped.wait_for_lines(place / "stopped.txt", lines)
        assert stopped.send(signal.SIGTERM) == 143, stopped.said
        stopped = Child(place, train, ["--resume", "stopped"], "stopped.txt")
    assert stopped.wait() == alone.wait() == 0, stopped.said + alone.said
    found = read_order(place / "stopped.txt")
    assert found == read_order(place / "alone.txt")
    assert_same_run(place / "stopped", place / "alone")

    source = open_source("wds:packed", SourceOptions(shard_cache=place / "cache"))
    table = source.train
    assert len(found) == 2 * (len(table) // 32)
    for epoch in (found[:STEPS], found[STEPS:]):
        rows = np.concatenate(epoch)
        assert len(np.unique(rows)) == len(rows) == 32 * STEPS
        # Each stream reads through its shards: steps after each other are near each other.
        near = [len(np.unique(table.shards[step[:8]])) for step in epoch]
        assert max(near) <= 3


@pytest.mark.slow
def test_killed_it_goes_on_from_the_checkpoint_in_the_shard(place, monkeypatch):
    monkeypatch.chdir(place)
    # Without loader workers: a forkserver's would not notice that their run was killed.
    words = [*WORDS, "--num-workers", "0", "--checkpoint-every", "5", "--run-dir", "killed"]
    child = Child(place, train, words, "killed.txt")
    child.wait_for_lines(place / "killed.txt", 13)
    assert child.send(signal.SIGKILL) == -signal.SIGKILL
    again = Child(place, train, ["--resume", "killed"], "resumed.txt")
    assert again.wait() == 0, again.said
    resumed = read_order(place / "resumed.txt")
    table = open_source("wds:packed", SourceOptions(shard_cache=place / "cache")).train
    shards = torch.from_numpy(table.shards).long()
    plan = ShardPlan(len(table), 32, 0, shards=shards, streams=4, window=64)
    wanted = [step for epoch in range(2) for step in plan.rows(epoch).tolist()]
    first = len(wanted) - len(resumed)
    assert first % 5 == 0
    assert first >= 10
    assert resumed == wanted[first:]
