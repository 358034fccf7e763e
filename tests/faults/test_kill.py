"""A run that is killed and resumed ends as the one that was left alone, bit for bit."""

from __future__ import annotations

import shlex
import signal

import pytest
from safetensors.torch import load_file

from ssl_lt.cli.yaml_file import read_yaml
from tests.faults.process import Command

WORDS = shlex.split(
    "--width 4 --batch-size 64 --epochs 3 --warmup-epochs 1 --num-workers 0 --mixed-precision no "
    "--log-every 1 --knn-every 2"
)
METHODS = {
    "simclr": [],
    "sdclr-bcl-gh": shlex.split(
        "--method sdclr --plugins bcl gh --gh.clusters 10 --gh.warmup-epochs 1"
    ),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Starts each method's undisturbed run once; the value waits for it and gives its folder."""
    folder = tmp_path_factory.mktemp("alone")
    commands = {}

    def run(method):
        if method not in commands:
            words = [*WORDS, *METHODS[method], "--run-dir", method]
            commands[method] = Command(folder, "pretrain", *words)
            assert commands[method].wait() == 0, commands[method].said
        return folder / method

    return run


def tensors(run):
    """Of the last checkpoint and of the exported network, by file."""
    newest = max((run / "checkpoints").iterdir())
    found = {p.name: load_file(p) for p in newest.glob("*.safetensors")}
    return newest.name, {**found, "exported": load_file(run / "exported/model.safetensors")}


def assert_equal(run, expected):
    assert (run / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    name, found = tensors(run)
    expected_name, wanted = tensors(expected)
    assert name == expected_name
    assert found.keys() == wanted.keys() >= {"model.safetensors", "memory.safetensors"}
    for file, own in wanted.items():
        assert found[file].keys() == own.keys()
        for key, value in own.items():
            assert found[file][key].equal(value), f"{file}: {key}"
    scores = sorted(p.name for p in (expected / "scores").glob("*"))
    assert sorted(p.name for p in (run / "scores").glob("*")) == scores
    for score in scores:
        assert (run / "scores" / score).read_bytes() == (expected / "scores" / score).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_again_and_again_it_ends_as_if_left_alone(tmp_path, method, alone):
    run = tmp_path / "killed"
    words = [*WORDS, *METHODS[method], "--checkpoint-every", "2", "--run-dir", "killed"]
    command = Command(tmp_path, "pretrain", *words)
    # Before the first checkpoint, within the first epoch, and within the last.
    for lines in (1, 6, 23):
        command.wait_for_lines(run / "metrics.jsonl", lines)
        assert command.send(signal.SIGKILL) == -signal.SIGKILL
        assert not (run / "exported").exists()
        command = Command(tmp_path, "pretrain", "--resume", "killed")
    assert command.wait() == 0, command.said
    assert_equal(run, alone(method))
    assert not list((run / "checkpoints").glob(".tmp*"))
    # 9 steps an epoch, and a kNN after the second and the last one.
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 27 + 2
    assert read_yaml(run / "config.yaml")["checkpoint-every"] == 2


@pytest.mark.slow
def test_a_stop_request_ends_the_step_and_leaves_a_run_to_resume(tmp_path, alone):
    run = tmp_path / "stopped"
    command = Command(tmp_path, "pretrain", *WORDS, "--run-dir", "stopped")
    for lines, asked, code in ((3, signal.SIGTERM, 143), (14, signal.SIGINT, 130)):
        command.wait_for_lines(run / "metrics.jsonl", lines)
        assert command.send(asked) == code, command.said
        last = command.said.splitlines()[-1]
        assert last.startswith(f"stopped by {asked.name} after step ")
        assert last.endswith("; --resume goes on from there")
        assert "Traceback" not in command.said
        step = int(last.split("after step ")[1].split(";")[0])
        assert (run / "checkpoints" / f"step-{step:06d}").is_dir()
        assert not (run / "exported").exists()
        command = Command(tmp_path, "pretrain", "--resume", "stopped")
    assert command.wait() == 0, command.said
    assert_equal(run, alone("simclr"))
