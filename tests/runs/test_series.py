"""Seeds, stages and the comparison with training from scratch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.data.dataset import open_data
from ssl_lt.report.records.results import read_results
from ssl_lt.runs.build.finetuning import build_task
from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.life import training
from ssl_lt.runs.series import series_members
from tests.configs import finetuning
from tests.toolbox import TINY, call, newest_weights, snapshot, succeed

pytestmark = pytest.mark.slow  # most of them train

SCRATCH = [*TINY, "--imbalance-factor", "20", "--eval-every", "0", "--init-from", "scratch"]


def members(loss, **values):
    config = finetuning(loss, values)
    return list(series_members(config, Path("runs/s")))


def test_every_seed_with_and_without_pretraining():
    found = members("la", seeds=[0, 7], **{"compare-scratch": True, "init-from": "runs/p"})
    assert [m.name for m in found] == [
        "scratch-seed0", "pretrained-seed0", "scratch-seed7", "pretrained-seed7",
    ]  # fmt: skip
    assert [m.config.init_from for m in found] == ["scratch", "runs/p"] * 2
    assert [m.config.run.seed for m in found] == [0, 0, 7, 7]
    # Equal budget: nothing else differs.
    same = {"init-from", "seed", "run-dir"}
    plain = [{k: v for k, v in to_mapping(m.config).items() if k not in same} for m in found]
    assert all(p == plain[0] for p in plain)
    assert not any(m.config.series.asked for m in found)


def test_the_stage_without_prototypes_mixes_with_labels_by_area():
    found = [m.config for m in members("bcl", mix="concutmix", stages=["contrast", "classifier"])]
    assert [c.mixing.mix for c in found] == ["concutmix", "cutmix"]
    assert found[1].mixing.probability == found[0].mixing.probability == 0.5
    assert found[1].mixing.partners == found[0].mixing.partners == "class_balanced"


def test_stages_stand_on_each_other():
    stages = {"stages": ["contrast", "classifier", "all"], "stage-epochs": [3, 1, 2], "tau": 1.7}
    first, second, third = members("rcl", **stages)
    assert (first.name, first.is_last) == ("seed0-1-contrast", False)
    assert first.config.options.classification_weight == 0
    assert first.config.options.contrast_weight == 1
    assert [m.config.fit.epochs for m in (first, second, third)] == [3, 1, 2]
    assert second.config.loss == "la"
    assert second.config.options.tau == 1.7
    assert second.config.tune == "head"
    assert second.config.init_from == "runs/s/seed0-1-contrast"
    assert not second.config.init_classifier  # the contrast has not trained it
    assert third.config.loss == "rcl"
    assert third.config.options.classification_weight == 2
    assert third.config.tune == "all"
    assert third.config.init_from == "runs/s/seed0-2-classifier"
    assert third.config.init_classifier
    assert third.is_last


def test_a_plain_loss_stays_itself_on_a_frozen_backbone():
    first, second = members("ce", stages=["classifier", "all"])
    assert (first.config.loss, first.config.tune) == ("ce", "head")
    assert (second.config.loss, second.config.tune) == ("ce", "all")


def test_a_stage_that_is_tuned_stands_on_the_classifier_alone():
    tuned = {"tune": "adaptformer", "adapter-dim": 4}
    first, second = members("la", stages=["classifier", "all"], **tuned)
    assert (first.config.tune, first.config.adapter_dim) == ("head", None)
    assert (second.config.tune, second.config.adapter_dim) == ("adaptformer", 4)


@pytest.mark.slow
def test_seeds_are_trained_and_summed_up(empty):
    succeed("finetune", *SCRATCH, "--seeds", "0", "1", "--run-dir", "s")
    results = [read_results(empty / "s" / f"seed{n}" / "results.json") for n in (0, 1)]
    accuracies = [r.evaluations[0].accuracy.balanced for r in results]
    first, second = (newest_weights(empty / "s" / f"seed{n}") for n in (0, 1))
    assert not first["classifier.weight"].equal(second["classifier.weight"])
    row = json.loads((empty / "s" / "summary.json").read_text())[0]
    mean, std, count = (row["columns"]["all"][key] for key in ("mean", "std", "count"))
    assert mean == pytest.approx(50 * sum(accuracies))
    assert std == pytest.approx(100 * abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert count == 2
    assert "±" in (empty / "s" / "summary.md").read_text()
    # A seed alone gives the very same weights.
    succeed("finetune", *SCRATCH, "--seed", "1", "--run-dir", "alone")
    alone, member = newest_weights(empty / "alone"), newest_weights(empty / "s" / "seed1")
    assert all(alone[name].equal(member[name]) for name in alone)


@pytest.mark.slow
def test_did_pretraining_help_is_one_command(empty):
    pretrain = [*TINY, "--knn-every", "0", "--imbalance-factor", "20"]
    succeed("pretrain", *pretrain, "--run-dir", "runs/p")
    words = [*TINY, "--eval-every", "0", "--compare-scratch", "--run-dir", "runs/s"]
    succeed("finetune", *words)
    started = {n: read_yaml(empty / "runs/s" / n / "config.yaml") for n in (
        "scratch-seed0", "pretrained-seed0",
    )}  # fmt: skip
    assert started["scratch-seed0"]["init-from"] == "scratch"
    assert Path(started["pretrained-seed0"]["init-from"]).name == "p"
    assert started["scratch-seed0"]["imbalance-factor"] == 20  # the data of the pretraining
    page = (empty / "runs/s/report/index.md").read_text()
    assert "Difference by group" in page
    assert "Gained" in page or "Lost" in page


@pytest.mark.slow
def test_a_series_that_was_stopped_goes_on(empty, monkeypatch):
    words = [*SCRATCH, "--seeds", "0", "1", "2", "--run-dir", "s"]
    succeed("finetune", *words)
    whole = {n: newest_weights(empty / "s" / f"seed{n}") for n in (0, 1, 2)}

    real, calls = training.export_backbone, []

    def killed_in_the_second(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError
        return real(*arguments, **options)

    monkeypatch.setattr(training, "export_backbone", killed_in_the_second)
    with pytest.raises(RuntimeError):
        call("finetune", *SCRATCH, "--seeds", "0", "1", "2", "--run-dir", "t")
    monkeypatch.setattr(training, "export_backbone", real)
    first = snapshot(empty / "t" / "seed0")
    succeed("finetune", "--resume", "t")
    assert snapshot(empty / "t" / "seed0") == first
    for n in (0, 1, 2):
        found = newest_weights(empty / "t" / f"seed{n}")
        assert all(found[name].equal(whole[n][name]) for name in found)
    assert (empty / "t" / "summary.json").read_text() == (empty / "s" / "summary.json").read_text()


@pytest.mark.slow
def test_contrast_first_then_the_classifier_then_everything(empty):
    small = ["--hidden-dim", "16", "--output-dim", "8"]
    words = [*SCRATCH, *small, "--loss", "bcl", "--run-dir", "s"]
    succeed("finetune", *words, "--stages", "contrast", "classifier", "all")
    one, two, three = (
        newest_weights(empty / "s" / f"seed0-{n}") for n in ("1-contrast", "2-classifier", "3-all")
    )
    trained = {n for n in two if n.startswith("backbone.") and not two[n].equal(one[n])}
    assert trained == set()  # running statistics among them
    moved = [n for n in three if n.startswith("backbone.") and n.endswith("weight")]
    assert all(not three[n].equal(two[n]) for n in moved)
    # The last stage began with the second one's classifier: one epoch does not forget it.
    assert (
        torch.cosine_similarity(two["classifier.weight"], three["classifier.weight"]).mean() > 0.5
    )
    result = read_results(empty / "s" / "seed0-3-all" / "results.json")
    assert result.method == "bcl"
    outcome = call("evaluate", "--run", "s")
    assert outcome.code == 2
    assert "seed0-1-contrast" in outcome.err[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--stages contrast", "--stages: --loss la has no contrast"),
        ("--stages all --tune head", "--tune head: --stages says when the classifier alone"),
        ("--loss rcl --stages contrast all --tune adaptformer", "--tune adaptformer: no stage can"),
        ("--stages all --stage-epochs 1 2", "--stage-epochs: 2 numbers for 1 stages"),
        ("--stages all --stage-epochs 0", "--stage-epochs: each must be at least 1"),
        ("--seeds 1 1", "--seeds: 1 1 names one twice"),
        ("--compare-scratch", "--compare-scratch: this starts from scratch"),
        ("--init-classifier", "--init-classifier: scratch is no fine-tuned run"),
        ("--head-lr -1", "--head-lr"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(empty, words, says):
    outcome = call("finetune", *SCRATCH, *words.split(), "--run-dir", "s")
    assert outcome.code == 2
    assert len(outcome.err) == 1
    assert says in outcome.err[0]
    assert not (empty / "s").exists()


def test_a_classifier_of_other_classes_is_refused(empty):
    succeed("pretrain", *TINY, "--knn-every", "0", "--run-dir", "p")
    outcome = call("finetune", *TINY, "--init-from", "p", "--init-classifier")
    assert outcome.code == 4
    assert "--init-classifier: p has no classifier" in outcome.err[0]


@pytest.mark.slow
def test_rates_reach_the_optimiser(empty):
    config = finetuning("la", {"width": 4, "init-from": "scratch"})
    fresh = build_task(config, open_data(config.data)).state_dict()
    succeed("finetune", *SCRATCH, "--head-lr", "1e-12", "--run-dir", "still")
    succeed("finetune", *SCRATCH, "--layer-decay", "0.01", "--run-dir", "low")
    succeed("finetune", *SCRATCH, "--run-dir", "plain")
    still, low, plain = (newest_weights(empty / name) for name in ("still", "low", "plain"))
    stem, head = "backbone.conv1.weight", "classifier.weight"
    torch.testing.assert_close(still[head], fresh[head])
    torch.testing.assert_close(low[stem], fresh[stem])
    for found, name in ((plain, stem), (plain, head), (still, stem), (low, head)):
        assert (found[name] - fresh[name]).abs().max() > 1e-3
