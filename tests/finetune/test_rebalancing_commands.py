"""`finetune.py --reweight`, `--sampler`: from the command line to the results, on the digits."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from ssl_lt.core.disk.yaml_file import read_yaml, write_yaml
from ssl_lt.report.records.results import read_results
from tests.configs import recipe
from tests.toolbox import TINY, call, succeed

pytestmark = pytest.mark.slow  # most of them train

FEW = [*TINY, "--init-from", "scratch", "--imbalance-factor", "50", "--eval-every", "0"]


def memory(run):
    newest = max((run / "checkpoints").iterdir())
    return load_file(newest / "memory.safetensors")


def test_weights_and_sampler_together_train_a_contrast_too(empty):
    words = "--reweight effective --sampler class_balanced --hidden-dim 16 --output-dim 8"
    succeed("finetune", *FEW, "--loss", "bcl", *words.split(), "--run-dir", "run")
    assert len(read_results(empty / "run/results.json").evaluations) == 1


@pytest.mark.slow
def test_the_meta_sampler_waits_for_the_stage_that_is_frozen_and_is_judged(empty):
    words = "--loss balanced_softmax --sampler meta --stages all classifier --stage-epochs 1 2"
    succeed("finetune", *FEW, *words.split(), "--run-dir", "run")
    first, second = empty / "run/seed0-1-all", empty / "run/seed0-2-classifier"
    assert read_yaml(first / "config.yaml")["sampler"] == "instance"
    tables = memory(second)
    rates = tables["meta_sampler.rates"]
    assert rates.sum().item() == pytest.approx(1)
    assert tables["meta_sampler.steps"] > 0
    assert not torch.allclose(rates.log().diff(), torch.zeros(9))
    succeed("evaluate", "--run", str(second), "--probe-on", "long-tail", "--map-images", "0")


@pytest.mark.slow
def test_a_run_of_before_these_flags_is_still_read(empty):
    succeed("finetune", *FEW, "--run-dir", "run")
    path = empty / "run/config.yaml"
    values = read_yaml(path)
    new = {"reweight", "sampler"}
    old = {k: v for k, v in values.items() if k not in new}
    assert len(values) - len(old) == 2
    path.write_text(write_yaml(old))
    succeed("evaluate", "--run", "run", "--probe-on", "long-tail", "--map-images", "0")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--reweight invers", "--reweight"),
        ("--reweight effective --reweight-beta 1", "--reweight-beta: 1.0 is outside"),
        ("--reweight inverse --reweight-after 2", "--reweight-after: 2.0 is outside"),
        ("--reweight inverse --loss elm", "--reweight: --loss elm takes no class weights"),
        ("--sampler balanced", "--sampler"),
        ("--sampler effective --sampler-beta -1", "--sampler-beta: -1.0 is outside"),
        ("--sampler meta", "--sampler meta: needs --tune head"),
        ("--sampler meta --loss rcl", "--sampler meta: --loss rcl is more than a classification"),
        ("--sampler meta --sampler-after 0.5", "--sampler-after: --sampler meta"),
        ("--sampler meta --tune head --meta.lr 0", "--meta.lr: 0.0 is not a positive number"),
    ],
)
def test_mistakes_end_in_one_line(empty, words, says):
    outcome = call("finetune", *FEW, *words.split())
    assert outcome.code == 2
    assert len(outcome.err) == 1
    assert says in outcome.err[0]
    assert not list(empty.iterdir())


def laptop(name):
    return recipe("finetune", "laptop/shelf", f"laptop/{name}")


def test_recipes_say_what_their_papers_say():
    drw, drs, tla = laptop("drw"), laptop("drs"), laptop("tla")
    weights = drw.weights
    assert (drw.loss, drw.classifier, drw.sampling.sampler) == ("ldam", "cosine", "instance")
    assert (weights.reweight, weights.reweight_beta, weights.reweight_after) == (
        "effective", 0.9999, 0.8,
    )  # fmt: skip
    assert drs.sampling == type(drs.sampling)("effective", 0.9999, 0.8)
    assert (drs.loss, drs.weights.reweight) == ("ldam", "none")
    assert (tla.options.gamma, tla.options.tau, tla.options.truncate_after) == (0.05, 0.75, 0.8)
    assert tla.weights == type(tla.weights)("adrw", reweight_power=0.25, reweight_after=0.8)
    for name in ("class_balanced", "square_root", "progressive"):
        config = laptop(f"{name}_sampling")
        assert (config.loss, config.sampling.sampler) == ("ce", name)
    balms = laptop("balms")
    assert (balms.loss, balms.sampling.sampler) == ("balanced_softmax", "meta")
    assert balms.series.stages == ("all", "classifier")
