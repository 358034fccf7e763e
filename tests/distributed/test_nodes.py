"""Two machines train as one process does.

A machine is a launcher with a working folder of its own; both are on the loopback.
"""

from __future__ import annotations

import shlex

import pytest
from safetensors.torch import load_file

from tests.distributed.nodes import Nodes, accelerate_launch, torchrun
from tests.distributed.test_training import WORDS, assert_same_training
from tests.toolbox import succeed

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

ON_NODE = ["-m", "tests.distributed.on_node"]
METHOD = shlex.split("--method sdclr --plugins bcl gh --gh.clusters 10 --gh.warmup-epochs 0")
VERBS = {"pretrain": METHOD, "finetune": ["--init-from", "scratch"]}


@pytest.mark.parametrize(
    ("launcher", "verb"), [(torchrun, "pretrain"), (accelerate_launch, "finetune")]
)
def test_two_machines_train_as_one_process(empty, launcher, verb):
    words = [*WORDS, *VERBS[verb]]
    shared = empty / "shared"
    own = ["--run-dir", str(shared / "two")]
    nodes = Nodes(empty, launcher, *ON_NODE, verb, *words, *own)
    found = nodes.wait()
    assert [code for code, _ in found] == [0, 0], found
    processes = sorted((folder / "process").read_text() for folder in nodes.folders)
    assert processes == ["0 0 2 1", "1 0 2 1"]  # each is the first of its machine
    assert sum("finished: " in said for _, said in found) == 1
    # Beside the run folder neither has written anything: no second run, no cache.
    assert [sorted(p.name for p in folder.iterdir()) for folder in nodes.folders] == 2 * [
        ["process"]
    ]
    succeed(verb, *words, "--run-dir", "shared/one")
    assert_same_training(shared / "two", shared / "one")
    newest = max((shared / "one/checkpoints").iterdir()).name
    two, one = (
        load_file(shared / run / "checkpoints" / newest / "model.safetensors")
        for run in ("two", "one")
    )
    for name, value in one.items():
        difference = (two[name] - value).abs().max()
        assert difference <= 2e-2 * value.abs().max() + 1e-6, name  # of what rounding has grown to
