"""`finetune.py --experts`, from the command line to the results, on the digits."""

from __future__ import annotations

import re

import pytest
import timm
import torch

from ssl_lt.core.disk.yaml_file import read_yaml, write_yaml
from ssl_lt.report.records.results import read_results
from tests.toolbox import TINY, refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

SMALL = [*TINY, "--imbalance-factor", "100", "--eval-every", "0"]
SCRATCH = ["--init-from", "scratch"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A plain run, and from it three experts of each kind, all judged."""
    path = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        succeed("finetune", *SMALL, *SCRATCH, "--loss", "ce", "--run-dir", "plain")
        start = [w for w in SMALL if w not in ("--width", "4")]  # of the run it starts from
        ride = "--experts ride --loss ldam --classifier cosine --reweight effective"
        start += ["--init-from", "plain"]
        said = succeed("finetune", *start, *ride.split(), "--run-dir", "ride").out
        (path / "said").write_text(said)
        ace = "--experts ace --loss la --num-experts 4"
        succeed("finetune", *SMALL, *SCRATCH, *ace.split(), "--run-dir", "ace")
    return path


def evaluations(run):
    return {e.name: e for e in read_results(run / "results.json").evaluations}


@pytest.mark.slow
def test_the_ensemble_and_the_routed_experts_are_judged(place):
    found = evaluations(place / "ride")
    assert list(found) == ["classifier", "classifier, routed"]
    asked = re.fullmatch(r"(\d\.\d\d) of 3 experts on average", found["classifier, routed"].note)
    assert 1 <= float(asked[1]) <= 3
    for evaluation in found.values():
        assert 0 <= evaluation.calibration.error <= 1
    assert list(evaluations(place / "ace")) == ["classifier"]
    assert read_results(place / "ride" / "results.json").plugins == ("ride",)
    assert read_results(place / "plain" / "results.json").plugins == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ride", "ace"])
def test_judged_again_they_are_the_same(place, kind, monkeypatch):
    monkeypatch.chdir(place)
    before = evaluations(place / kind)
    words = "--probe-on long-tail --random-init --map-images 0"
    succeed("evaluate", "--run", kind, *words.split())
    after = evaluations(place / kind)
    assert all(after[name] == e for name, e in before.items())
    assert {"kNN", "linear probe, long-tailed", "random init: kNN"} <= set(after)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "num_features"), [("ride", 3 * 12), ("ace", 4 * 12)])
def test_timm_loads_the_exported_experts(place, kind, num_features):
    network = timm.create_model(f"local-dir:{place / kind / 'exported'}", pretrained=True)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, num_features)


@pytest.mark.slow
def test_experts_take_from_a_plain_run_what_they_share(place):
    line = next(x for x in (place / "said").read_text().splitlines() if "from plain" in x)
    shared = timm.create_model(f"local-dir:{place / 'ride' / 'exported'}").shared_part()
    assert f"{len(shared.state_dict())} tensors loaded, 0 missing" in line


@pytest.mark.slow
def test_a_run_from_before_there_were_experts_is_judged(place, monkeypatch):
    monkeypatch.chdir(place)
    file = place / "plain" / "config.yaml"
    values = read_yaml(file)
    ours = {k for k in values if "expert" in k or k.startswith(("diversity", "class-temperature"))}
    assert {"experts", "num-experts"} <= ours
    kept = {k: v for k, v in values.items() if k not in ours and k != "interference-weight"}
    file.write_text(write_yaml(kept))
    before = evaluations(place / "plain")
    succeed("evaluate", "--run", "plain", "--probe-on", "long-tail", "--map-images", "0")
    assert evaluations(place / "plain")["classifier"] == before["classifier"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--experts ride --loss bcl", "--experts ride: --loss bcl is more than a classification"),
        ("--experts ace --loss paco", "--experts ace: --loss paco is more than a classification"),
        ("--experts ride --sampler meta", "--experts ride: --sampler meta"),
        ("--experts ace --optimizer adamw", "--optimizer: adamw does not see how large a loss is"),
        ("--experts ace --num-experts 11", "--num-experts: 11 leaves expert 2 of 11 without a cl"),
        ("--experts rid", "--experts"),
        ("--num-experts 4", "--num-experts belongs to --experts ride or ace"),
    ],
)
def test_mistakes_end_in_one_line(empty, words, says):
    refuses("finetune", empty, " ".join([*SMALL, *SCRATCH, words]), 2, says)


@pytest.mark.slow
def test_a_plain_run_has_no_experts_to_freeze(place, monkeypatch):
    monkeypatch.chdir(place)
    words = [*SMALL, "--experts", "ride", "--init-from", "plain", "--tune", "head"]
    refuses("finetune", place, " ".join(words), 2, "--tune: plain has no experts")


def test_a_backbone_that_cannot_be_split(empty):
    words = [w for w in SMALL if w not in ("--width", "4")]
    words += [*SCRATCH, "--experts", "ride", "--backbone", "resnet18"]
    refuses("finetune", empty, " ".join(words), 2, "--backbone: resnet18 cannot be split into exp")
