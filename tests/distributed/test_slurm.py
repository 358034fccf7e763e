"""The batch script of Slurm, between stand-ins for Slurm's commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from ssl_lt.cli.commands import pretrain
from tests.distributed.nodes import free_port

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "configs/slurm/pretrain.sbatch"
JOB = 4711

# What each stand-in does besides noting how it was called.
STAND_INS = {
    "scontrol": '[ "$1" = show ] && printf "%s\\n" 127.0.0.1 other-node || true',
    "scancel": 'kill -TERM $(cat "$NOTES/launchers")',
    "srun": "exit ${SRUN_CODE:-0}",
}
# Starts what it is given once for each of two nodes.
SRUN_TWO_NODES = """shift
for node in 0 1; do "$@" & echo $! >> "$NOTES/launchers"; done
code=0
for pid in $(cat "$NOTES/launchers"); do wait $pid || code=1; done
exit $code"""


class Job:
    """The script as Slurm starts it, in the project's folder."""

    def __init__(
        self, notes: Path, *words: str, srun: str = STAND_INS["srun"], **more: str
    ) -> None:
        self.notes = notes
        bin_folder = notes / "bin"
        bin_folder.mkdir(exist_ok=True)
        (notes / "launchers").write_text("")
        for name, does in {**STAND_INS, "srun": srun}.items():
            # One line a call, each word quoted.
            note = f'printf "%q " "$@" >> "$NOTES/{name}"; echo >> "$NOTES/{name}"'
            (bin_folder / name).write_text(f"#!/usr/bin/env bash\n{note}\n{does}\n")
            (bin_folder / name).chmod(0o755)
        path = f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": path,
            "NOTES": str(notes),
            "OMP_NUM_THREADS": "1",
            "SLURM_JOB_ID": str(JOB),
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_GPUS_ON_NODE": "8",
            "RUN_DIR": str(notes / "run"),
            **more,
        }
        self.process = subprocess.Popen(
            ["bash", str(SCRIPT), *words], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def wait(self) -> tuple[int, str]:
        """Exit code, and what was said."""
        said = self.process.communicate(timeout=240)[0]
        return self.process.returncode, said

    def calls(self, name: str) -> list[list[str]]:
        """Words of each call of a stand-in."""
        path = self.notes / name
        return (
            [shlex.split(line) for line in path.read_text().splitlines()] if path.exists() else []
        )


def launched(job):
    """What srun was to start, as the launcher reads it."""
    (_, *words) = job.calls("srun")[-1]
    assert words[:3] == ["python", "-m", "torch.distributed.run"]
    return get_args_parser().parse_args(words[3:])


def test_it_is_bash():
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", SCRIPT.read_text(), flags=re.M))
    assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("2", "1", "8")
    assert "requeue" in asked
    seconds = int(asked["signal"].removeprefix("B:USR1@"))
    assert seconds > int(re.search(r"--shutdown_timeout (\d+)", SCRIPT.read_text())[1])


def test_a_new_job_starts_one_launcher_a_node_and_a_new_run(tmp_path):
    job = Job(tmp_path, "--method", "sdclr", "--data", "folder:my photos")
    assert job.wait() == (0, "")
    asked = launched(job)
    assert (asked.nnodes, asked.nproc_per_node) == ("2", "8")
    assert (asked.rdzv_backend, asked.rdzv_id) == ("c10d", f"{JOB}-0")
    assert asked.rdzv_endpoint == f"127.0.0.1:{20000 + JOB}"
    assert asked.training_script == "pretrain.py"
    config, *_ = pretrain.read(asked.training_script_args)
    assert (config.method, config.data.data) == ("sdclr", "folder:my photos")
    assert config.run.run_dir == tmp_path / "run"
    assert job.calls("scontrol") == [["show", "hostnames", "node-[a-b]"]]


def test_a_job_that_was_queued_again_goes_on(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("verb: pretrain\nmethod: simclr\nplugins: []\n")
    job = Job(tmp_path, "--method", "simclr", SLURM_RESTART_COUNT="1")
    assert job.wait() == (0, "")
    asked = launched(job)
    assert asked.rdzv_id == f"{JOB}-1"  # nothing of the first attempt is met
    config, _, resumed = pretrain.read(asked.training_script_args)
    assert resumed is not None
    assert resumed.path == tmp_path / "run"
    assert config.method == "simclr"


def test_a_run_that_fails_is_not_queued_again(tmp_path):
    job = Job(tmp_path, SRUN_CODE="1")
    assert job.wait() == (1, "")
    assert [call[0] for call in job.calls("scontrol")] == ["show"]


@pytest.mark.slow
@pytest.mark.distributed
def test_near_its_limit_it_saves_is_queued_again_and_goes_on(tmp_path):
    words = shlex.split(
        "--width 4 --batch-size 32 --epochs 4 --warmup-epochs 0 --num-workers 0 --knn-every 0 "
        "--mixed-precision no --log-every 1"
    )
    slurm = {"SLURM_GPUS_ON_NODE": "1", "MASTER_PORT": str(free_port()), "srun": SRUN_TWO_NODES}
    job = Job(tmp_path, *words, **slurm)
    metrics = tmp_path / "run/metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 3):
        assert job.process.poll() is None, job.wait()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.process.send_signal(signal.SIGUSR1)
    code, said = job.wait()
    assert code == 1, said
    assert "stopped by SIGTERM after step" in said
    assert job.calls("scancel") == [["--signal=TERM", str(JOB)]]
    assert job.calls("scontrol")[-1] == ["requeue", str(JOB)]
    (saved,) = [p.name for p in (tmp_path / "run/checkpoints").glob("step-*")][-1:]
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert int(saved.removeprefix("step-")) == lines[-1]["step"] < 72
    again = Job(tmp_path, *words, **{**slurm, "MASTER_PORT": str(free_port())})
    code, said = again.wait()
    assert code == 0, said
    assert said.count("finished: ") == 1
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 73))
