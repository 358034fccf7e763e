from __future__ import annotations

import pytest

from ssl_lt.core.options import Effect
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.schema import differences, flags, names_with, nearest, to_mapping
from tests.configs import finetuning, pretraining

ALL = [pretraining(method, list(PLUGINS)) for method in METHODS]
ALL += [finetuning(loss) for loss in LOSSES]
ALL += [EvaluateConfig()]


@pytest.mark.parametrize("config", ALL)
def test_no_two_fields_share_a_flag(config):
    names = [flag.name for flag in flags(config)]
    assert len(names) == len(set(names)) > 5


@pytest.mark.parametrize("config", ALL)
def test_values_are_plain(config):
    plain = (type(None), bool, int, float, str, list)
    assert all(isinstance(value, plain) for value in to_mapping(config).values())


def test_names_are_flat_or_prefixed():
    names = {flag.name: flag.declared.name for flag in flags(pretraining("sdclr", ["gh"]))}
    assert names["sdclr.prune-ratio"] == "prune_ratio"
    assert names["gh.warmup-epochs"] == "warmup_epochs"
    assert names["warmup-epochs"] == "warmup_epochs"
    assert names["projector.output-dim"] == "output_dim"


def test_some_names_can_be_left_out():
    found = to_mapping(pretraining(), skip=["gh.", "epochs"])
    assert "epochs" not in found
    assert not any(name.startswith("gh.") for name in found)


def test_what_an_option_is_for_stands_on_it():
    config = finetuning()
    assert names_with(config, Effect.START) == {"init-from", "init-classifier", "budget"}
    machine = {"data-root", "num-workers", "shard-cache", "shard-cache-mib"}
    assert names_with(config, Effect.MACHINE) == machine
    assert names_with(config, Effect.RUN) == {
        "run-dir", "download", "worker-timeout", "keep-checkpoints",
        "checkpoint-every", "trackers", "compile", "dist-timeout", "grad-checkpointing",
        "max-image-mpix",
    }  # fmt: skip


def test_differences_name_both_values():
    assert differences({"lr": 0.1, "a": 1}, {"lr": 0.2, "a": 1, "b": 2}) == ["--lr 0.2 (was 0.1)"]


def test_nearest():
    assert nearest("epoch", ["epochs", "lr"]) == "; did you mean epochs?"
    assert (
        nearest("--prune-ratio", ["--sdclr.prune-ratio"]) == "; did you mean --sdclr.prune-ratio?"
    )
    assert nearest("qqq", ["epochs", "lr"]) == ""
