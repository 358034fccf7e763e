"""The order of shards: a shuffle buffer as a function, and who reads what."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.loading import plan as loaders
from ssl_lt.data.loading import shard_plan
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.loading.shard_plan import ShardPlan, epoch_plan
from ssl_lt.data.options import DataOptions
from ssl_lt.data.remote.shards import ShardCache
from ssl_lt.data.tables.shards import ShardTable

# 40 shards of 13 to 52 rows: 1,300 rows.
SIZES = torch.arange(40) + 13
SHARDS = torch.repeat_interleave(torch.arange(40), SIZES)
N = len(SHARDS)


def plan(*, batch_size=16, streams=4, window=256, seed=3, shards=SHARDS):
    return ShardPlan(len(shards), batch_size, seed, shards=shards, streams=streams, window=window)


def oracle(shards, *, batch_size, streams, window, line, noise):
    """An epoch with Python lists: cut the line into streams, shuffle windows, take turns."""
    length, part = len(line) // streams, batch_size // streams
    each = [line[s * length : (s + 1) * length] for s in range(streams)]
    ranks = [noise[s * length : (s + 1) * length] for s in range(streams)]
    shuffled = []
    for rows, numbers in zip(each, ranks, strict=True):
        done = []
        for start in range(0, length, window // streams):
            inside = range(start, min(start + window // streams, length))
            done += [rows[i] for i in sorted(inside, key=lambda i: numbers[i])]
        shuffled.append(done)
    steps = len(line) // batch_size
    return [
        [row for stream in shuffled for row in stream[t * part : (t + 1) * part]]
        for t in range(steps)
    ]


@pytest.mark.parametrize("window", [4, 64, 100, 10_000])
def test_an_epoch_is_what_the_lists_say(window, monkeypatch):
    order, noise = torch.randperm(40), torch.randperm(N // 4 * 4)
    drawn = {40: order, len(noise): noise}
    monkeypatch.setattr(shard_plan, "permutation", lambda n, **_: drawn[n])
    line = [row for s in order.tolist() for row in np.flatnonzero(s == SHARDS).tolist()]
    want = oracle(SHARDS, batch_size=16, streams=4, window=window, line=line, noise=noise.tolist())
    assert plan(window=window).rows(0).tolist() == want


def test_every_row_comes_once_and_none_is_left_out_for_good():
    seen = set()
    for epoch in range(6):
        rows = plan().rows(epoch).flatten().tolist()
        assert len(rows) == len(set(rows)) >= N - (4 + 16 - 2)
        assert set(rows) <= set(range(N))
        seen |= set(rows)
    assert seen == set(range(N))


def test_epochs_and_seeds_differ_and_calls_do_not():
    first, again, later = (plan().rows(epoch) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, plan(seed=4).rows(0))


def test_few_shards_are_read_at_a_time():
    open_at_once = [len(SHARDS[rows].unique()) for rows in plan(window=64).rows(0)]
    assert max(open_at_once) <= 4 * 3  # of each stream's window of 16 rows at most three shards
    at_random = [len(SHARDS[rows].unique()) for rows in plan(window=10**6).rows(0)]
    assert np.mean(at_random) > 1.5 * np.mean(open_at_once)
    # A shard is read from in one stretch of steps, in two streams at most.
    steps = {}
    for step, rows in enumerate(plan(window=64).rows(0)):
        for shard in SHARDS[rows].unique().tolist():
            steps.setdefault(shard, []).append(step)
    inside = [shard for shard, found in steps.items() if found[-1] - found[0] + 1 <= 25]
    assert len(inside) >= 40 - 4  # but for the shards that a cut between streams divides


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_ranks_together_are_one_process_and_share_out_the_shards(monkeypatch, ranks):
    whole = plan().rows(1)
    shares = []
    for module in (loaders, shard_plan):
        monkeypatch.setattr(module, "world_size", lambda: ranks)
    for rank in range(ranks):
        monkeypatch.setattr(loaders, "rank", lambda rank=rank: rank)
        shares.append(plan().rows(1))
    assert torch.equal(torch.cat(shares, dim=1), whole)
    read = Counter(s for share in shares for s in set(SHARDS[share.flatten()].tolist()))
    assert sum(count > 1 for count in read.values()) <= ranks - 1


def test_a_subset_keeps_the_shards_together():
    rows = torch.arange(0, N, 3)
    found = plan(shards=SHARDS[rows], window=4).rows(0)
    assert len(found.flatten().unique()) == found.numel()


@pytest.mark.parametrize(("batch_size", "streams"), [(256, 16), (60, 15), (13, 13), (17, 1)])
def test_without_a_flag_the_streams_fit_the_batch(tmp_path, batch_size, streams):
    cache = ShardCache(tmp_path, 0)
    shards, numbers = SHARDS.numpy().astype(np.int32), np.arange(N)
    table = ShardTable((), cache, shards, numbers, numbers, numbers, torch.full((N,), -1))
    every_third = np.arange(0, N, 3)

    def found(**options):
        options = DataOptions(**options)
        return epoch_plan(table, every_third, options, batch_size=batch_size, seed=0)

    assert found().streams == streams
    assert torch.equal(found().shards, SHARDS[every_third])
    assert type(found(shard_window=0)) is BatchSchedule


def test_what_cannot_be_shared_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="--shard-streams 6: must divide --batch-size 16"):
        plan(streams=6)
    monkeypatch.setattr(loaders, "world_size", lambda: 2)
    monkeypatch.setattr(shard_plan, "world_size", lambda: 2)
    said = "--shard-streams 1: must be a multiple of the 2 processes"
    with pytest.raises(ConfigError, match=said):
        plan(streams=1)


FLAT = """
import io, resource, sys, tarfile
from pathlib import Path
import numpy as np, torch
from PIL import Image
from ssl_lt.augment.views import ViewOptions, WorkerCrop
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.options import DataOptions
from ssl_lt.data.remote.shards import ShardCache
from ssl_lt.data.loading.shard_plan import ShardPlan, epoch_plan
from ssl_lt.data.tables.shards import ShardTable
from ssl_lt.data.sources.registry import open_source
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.loading.worker_loader import WorkerLoader
from ssl_lt.data.loading.workers import Workers

place, limit_mib = Path(sys.argv[1]), int(sys.argv[2])
noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
for number in range(8):
    with tarfile.open(place / f"{number}.tar", "w") as tar:
        for key in range(170):
            file = io.BytesIO()
            Image.fromarray(np.roll(noise, number * 170 + key)).save(file, "BMP")
            info = tarfile.TarInfo(f"{key}.bmp")
            info.size = file.tell()
            file.seek(0)
            tar.addfile(info, file)
total = sum(path.stat().st_size for path in place.glob("*.tar"))
assert total >= 10 * limit_mib * 2**20, total
table = open_source(f"wds:{place}", SourceOptions(shard_cache=place / "cache")).train
plan = ShardPlan(len(table), 16, 0, shards=torch.from_numpy(table.shards).long(),
                 streams=8, window=64)
crop = WorkerCrop((ViewOptions(),) * 2, seed=0)
spec = ImageSpec(64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
loader = WorkerLoader(table, crop, plan, spec=spec, device=torch.device("cpu"), workers=Workers(0))
next(iter(loader.epoch(9)))
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status")
            if line.startswith("VmData"))
limit = used + limit_mib * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
ids = [sorted(int(i) for batch in loader.epoch(epoch) for i in batch.index) for epoch in range(3)]
assert all(len(set(found)) == len(found) == 1360 for found in ids), [len(found) for found in ids]
hold = []
try:
    while True:
        hold.append(np.ones(2**20))
except MemoryError:
    print("flat", len(hold))
"""


@pytest.mark.slow
def test_memory_stays_below_a_cap_over_three_epochs_of_a_set_ten_times_as_large(tmp_path):
    run = [sys.executable, "-c", FLAT, str(tmp_path), "24"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    word, arrays = done.stdout.split()
    assert word == "flat"
    assert int(arrays) <= 3  # of 8 MiB: the limit holds
