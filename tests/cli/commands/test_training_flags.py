"""Flags of training that are refused, and those that change no number."""

from __future__ import annotations

import pytest

from tests.toolbox import TINY, call, newest_weights, succeed

SCRATCH = [*TINY, "--init-from", "scratch"]
ADAMW = ["--optimizer", "adamw"]


@pytest.mark.parametrize(
    ("verb", "words", "says"),
    [
        ("finetune", ["--betas", "0.9", "0.95"], "--betas has no effect without --optimizer adamw"),
        ("pretrain", ["--betas", "0.9", "0.95"], "--betas has no effect without --optimizer adamw"),
        ("finetune", [*ADAMW, "--betas", "0.9", "1"], "--betas: 0.9 1.0 are not both in [0, 1)"),
        ("finetune", ["--drop-path", "0.1"], "--drop-path: resnet20_cifar has no stochastic depth"),
        ("pretrain", ["--drop-path", "1"], "--drop-path: 1.0 is outside [0, 1)"),
        (
            "finetune",
            ["--drop-path", "0.1", "--experts", "ride"],
            "--drop-path: --experts ride have no stochastic depth",
        ),
        (
            "finetune",
            ["--grad-checkpointing", "--tune", "head"],
            "--grad-checkpointing: a frozen backbone",
        ),
        ("finetune", ["--grad-checkpointing", "--compile"], "--grad-checkpointing: does not go"),
        ("pretrain", ["--grad-checkpointing", "--method", "sdclr"], "--method sdclr runs"),
        ("finetune", ["--sam", "0.1", "--mixed-precision", "fp16"], "--sam: does not go with"),
        ("finetune", ["--mixed-precision", "fp16"], "--mixed-precision fp16: needs a CUDA device"),
    ],
)
def test_mistakes_end_in_one_line(empty, verb, words, says):
    start = SCRATCH if verb == "finetune" else TINY
    outcome = call(verb, *start, *words)
    assert (outcome.code, len(outcome.err)) == (2, 1), outcome.err
    assert says in outcome.err[0]
    assert not (empty / "runs").exists()


@pytest.mark.slow
def test_checkpointed_activations_change_no_number_whatever_else_is_on(empty):
    words = [*SCRATCH, *ADAMW, "--betas", "0.8", "0.99", "--lr", "0.001", "--epochs", "2"]
    words += ["--sam", "0.05", "--sam-classes", "tail", "--sam-tail-below", "60", "--ema", "0.9"]
    succeed("finetune", *words, "--run-dir", "plain")
    succeed("finetune", *words, "--grad-checkpointing", "--run-dir", "checkpointed")
    plain, found = newest_weights(empty / "plain"), newest_weights(empty / "checkpointed")
    assert all(found[name].equal(tensor) for name, tensor in plain.items())
    logs = [(empty / run / "metrics.jsonl").read_bytes() for run in ("plain", "checkpointed")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_stochastic_depth_is_of_training_alone(empty):
    words = ["--backbone", "test_vit", *SCRATCH[2:], "--drop-path", "0.5", "--grad-checkpointing"]
    succeed("finetune", *words, "--run-dir", "run")
    succeed("evaluate", "--run", "run", "--map-images", "0", "--num-workers", "0")
