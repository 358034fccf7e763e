"""Features in a file: the same rows, and no more memory than a part of the bank."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from ssl_lt.core.errors import DataError, DiskError
from ssl_lt.evaluate.features.extract import extract_features, feature_batches
from ssl_lt.evaluate.features.feature_file import store_features
from tests.evaluate.features.test_extract import Backbone, batches, prepare


def test_what_is_mapped_equals_what_is_held_in_memory(tmp_path):
    held = extract_features(Backbone(), batches(range(20)), prepare)
    stored = store_features(feature_batches(Backbone(), batches(range(20)), prepare), tmp_path)
    assert torch.equal(stored.features, held.features)
    assert torch.equal(stored.labels, held.labels)
    assert torch.equal(stored.index, held.index)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_keep_and_nowhere_to_keep_it(tmp_path):
    with pytest.raises(DataError, match="there is no image"):
        store_features(iter([]), tmp_path)
    with pytest.raises(DiskError, match="nowhere: no room for features: No such file"):
        store_features(feature_batches(Backbone(), batches([0]), prepare), tmp_path / "nowhere")


def test_a_caller_between_two_batches_is_in_no_inference_mode():
    for part in feature_batches(Backbone(), batches(range(20)), prepare):
        assert not torch.is_inference_mode_enabled()
        assert not torch.ones(1).is_inference()
        assert len(part) == 4


# 128 MiB of features; the process may take so many bytes beyond what it has after its imports.
# Pages of a mapped file do not count: the system drops them when it needs the room.
_SCRIPT = """
import resource, sys, tempfile, torch
from pathlib import Path
from ssl_lt.evaluate.neighbours.search import search as neighbours
from ssl_lt.evaluate.features.feature_file import store_features
from ssl_lt.evaluate.features.extract import Features
from ssl_lt.evaluate.neighbours.nearest import nearest_rows

ROWS, DIM, LIMIT = 131_072, 256, 100 << 20
neighbours._CHUNK_BYTES, neighbours._ROWS_PER_LIST = 4 << 20, 39
torch.set_num_threads(1)

def parts(rows=ROWS):
    generator = torch.Generator().manual_seed(0)
    for start in range(0, rows, 4096):
        index = torch.arange(start, start + 4096)
        yield Features(torch.randn(4096, DIM, generator=generator), index % 10, index)

queries = next(parts())
queries = Features(queries.features[:300], queries.labels[:300], queries.index[:300])
warm = store_features(parts(8192), Path(tempfile.gettempdir()))
for index in ("exact", "ivf"):
    neighbours.find_neighbours(warm, queries, k=5, num_classes=10, index=index)
status = Path("/proc/self/status").read_text().split()
used = 1024 * int(status[status.index("VmData:") + 1])
resource.setrlimit(resource.RLIMIT_DATA, (used + LIMIT, used + LIMIT))
bank = store_features(parts(), Path(sys.argv[2]))
found = neighbours.find_neighbours(bank, queries, k=5, num_classes=10, index=sys.argv[1])
assert bank.features.numel() * 4 > LIMIT
# The queries are rows of the bank: each finds itself.
nearest = torch.from_numpy(found.similarity[:, 0])
print("found", int((nearest > 0.99).sum()), found.recall)
print("shown", nearest_rows(bank.features, queries.features[:3], k=1)[1][:, 0].tolist())
"""


@pytest.mark.parametrize("index", ["ivf", "exact"])
def test_a_bank_larger_than_the_memory(tmp_path, index):
    command = [sys.executable, "-c", textwrap.dedent(_SCRIPT), index, str(tmp_path)]
    # Blocks go back to the system when they are freed: holes in the heap would count as used.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if index == "ivf":
        assert done.returncode == 0, done.stderr
        found, recall = done.stdout.split()[1:3]
        assert int(found) == 300
        assert float(recall) >= 0.9
        assert "shown [0, 1, 2]" in done.stdout
    else:
        assert done.returncode != 0
        assert "memory" in done.stderr.lower()
