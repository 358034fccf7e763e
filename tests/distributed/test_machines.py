"""What goes by machines: who downloads first; and which engines and checkpoints go together."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ssl_lt.engine.mirror import Mirror

from ssl_lt.core.errors import DistributedError
from ssl_lt.core.processes.distributed import first_of_each_machine
from ssl_lt.engine.checkpoints.run_folder import RunFolder
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
        time.sleep(rank)  # rank 1 would be done before rank 2 if it did not wait for it
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


@pytest.mark.slow
@pytest.mark.distributed
def test_one_process_fetches_what_both_resume(tmp_path):
    run = RunFolder(tmp_path / "bucket-of-origin/run")
    run.exported.mkdir(parents=True)
    (run.exported / "model.safetensors").write_text("of a finished run")
    run.config.write_text("verb: pretrain\nmethod: simclr\nplugins: []\n")
    Mirror(run, f"file://{tmp_path}/bucket", warn=pytest.fail).copy()
    ranks = Ranks(tmp_path, "pretrain", "--resume", f"file://{tmp_path}/bucket/run")
    try:
        assert ranks.codes() == [0, 0]
    finally:
        Ranks.end_all()
    said = ranks.said(0) + ranks.said(1)
    assert said.count(f"file://{tmp_path}/bucket/run: fetched into runs/run") == 1
    assert said.count("runs/run is finished: nothing to do") == 2
    assert (tmp_path / "runs/run/exported/model.safetensors").read_text() == "of a finished run"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("FSDP_VERSION", "1", "error: FSDP 1, which the launcher's configuration asks for, is not"),
        ("FSDP_OFFLOAD_PARAMS", "true", "error: fsdp_offload_params of the launcher"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "error: fsdp_activation_checkpointing of the"),
        (
            "FSDP_AUTO_WRAP_POLICY",
            "SIZE_BASED_WRAP",
            "error: fsdp_auto_wrap_policy of",
        ),
        (
            "FSDP_IGNORED_MODULES",
            "fc",
            "error: fsdp_ignored_modules of the launcher: fc",
        ),
        (
            "FSDP_RESHARD_AFTER_FORWARD",
            "no_shard",
            "error: fsdp_reshard_after_forward of",
        ),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "error: Megatron-LM, which the launcher's"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "error: parallelism_config, which the"),
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            "error: gradient_accumulation_steps 4 of the launcher: give --accumulate-steps instead",
        ),
    ],
)
def test_what_a_launcher_may_not_ask_for(tmp_path, monkeypatch, variable, value, says):
    monkeypatch.chdir(tmp_path)
    if variable.startswith("FSDP"):
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
        monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv(variable, value)
    refuses("pretrain", tmp_path, " ".join(TINY), 2, says)


def test_what_does_not_go_with_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    refuses("pretrain", tmp_path, " ".join([*TINY, "--compile"]), 2, "error: --compile: not with")
    words = " ".join([*TINY, "--init-from", "scratch", "--loss", "paco"])
    refuses(
        "finetune", tmp_path, words, 2, "FSDP, which the launcher's configuration asks for: --l"
    )
