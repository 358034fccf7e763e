"""What goes by machines: who downloads first; and which engines and checkpoints go together."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ssl_lt.core.errors import DistributedError
from ssl_lt.core.processes.distributed import first_of_each_machine
from ssl_lt.engine.checkpoints.state import check_same_step
from tests.distributed.pool import run_on
from tests.faults.ranks import Ranks
from tests.toolbox import TINY, refuses

# Ranks 0 and 1 are on one machine, rank 2 is alone on another.
LOCAL_RANKS = (0, 1, 0)


def on_this_rank(rank, file):
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "3",
        "LOCAL_RANK": str(LOCAL_RANKS[rank]),
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }
    check_same_step(7)
    with first_of_each_machine(), Path(file).open("a") as order:
        time.sleep(0.1 * rank)  # rank 1 would be done before rank 2 if it did not wait for it
        order.write(f"{rank}\n")
    try:
        check_same_step((9, 9, 3)[rank])
    except DistributedError as error:
        return str(error)


@pytest.mark.distributed
def test_who_goes_first_and_that_all_go_on_from_the_same(tmp_path):
    said = run_on(3, on_this_rank, str(tmp_path / "order"))
    assert (tmp_path / "order").read_text().split() == ["0", "2", "1"]
    assert said == 3 * [
        "newest checkpoint: step 9 in process 0 and 3 in process 2; "
        "all must see the same run folder"
    ]


def in_a_folder_of_its_own():
    """As on another machine, with nothing shared."""
    chdir = os.chdir

    def elsewhere(folder):
        own = Path(folder) / "own"
        own.mkdir()
        chdir(own)

    os.chdir = elsewhere


@pytest.mark.slow
@pytest.mark.distributed
def test_a_run_folder_that_one_does_not_see_is_said(tmp_path):
    words = [*TINY, "--run-dir", "runs/run"]
    ranks = Ranks(tmp_path, "pretrain", *words, faults={1: in_a_folder_of_its_own})
    try:
        assert ranks.codes() == [6, 6]
    finally:
        Ranks.end_all()
    assert ranks.errors() == [
        "error: runs/run: was made by process 0, and process 1 does not see it: "
        "remove it and give a --run-dir on a disk that all machines share"
    ]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ACCELERATE_USE_FSDP", "true", "error: FSDP, which the launcher's configuration asks for"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "error: DeepSpeed, which the launcher's"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "error: Megatron-LM, which the launcher's"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "error: parallelism_config, which the"),
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            "error: gradient_accumulation_steps 4 of the launcher: give --accumulate-steps instead",
        ),
    ],
)
def test_what_a_launcher_may_not_ask_for(empty, monkeypatch, variable, value, says):
    monkeypatch.setenv(variable, value)
    refuses("pretrain", empty, " ".join(TINY), 2, says)
