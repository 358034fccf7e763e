"""Seeds, stages and the comparison of starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.data.dataset import open_data
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.report.records.results import read_results
from ssl_lt.runs.build.finetuning import build_task
from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.finished import finished_run
from ssl_lt.runs.life import training
from ssl_lt.runs.life.init_from import find_source
from ssl_lt.runs.life.starts import ComparedStart
from ssl_lt.runs.members import distinct_names, series_members
from tests.configs import finetuning
from tests.toolbox import TINY, call, newest_weights, refuses, snapshot, succeed

pytestmark = pytest.mark.slow  # most of them train

ANY_SIZE = [word for word in TINY if word not in ("--image-size", "16")]
SCRATCH = [*TINY, "--imbalance-factor", "20", "--eval-every", "0", "--init-from", "scratch"]


def members(loss, *starts, **values):
    config = finetuning(loss, values)
    return list(series_members(config, starts, Path("runs/s")))


def test_every_seed_from_every_start():
    starts = ComparedStart("scratch", ()), ComparedStart("runs/p", ("--image-size", "24"))
    found = members("la", *starts, seeds=[0, 7], compare=["scratch", "runs/p"])
    assert [m.name for m in found] == [
        "1-scratch-seed0", "1-scratch-seed7", "2-p-seed0", "2-p-seed7",
    ]  # fmt: skip
    assert [m.start for m in found] == ["scratch"] * 2 + ["p"] * 2
    assert [m.config.init_from for m in found] == ["scratch"] * 2 + ["runs/p"] * 2
    assert [m.config.run.seed for m in found] == [0, 7, 0, 7]
    assert [m.config.data.image_size for m in found] == [None, None, 24, 24]
    # Nothing else differs.
    same = {"init-from", "seed", "run-dir", "image-size"}
    plain = [{k: v for k, v in to_mapping(m.config).items() if k not in same} for m in found]
    assert all(p == plain[0] for p in plain)
    assert not any(m.config.series.asked for m in found)


def test_starts_have_the_last_part_of_their_path_as_a_name():
    starts = ["runs/a/exported", "runs/b/exported", "w/x.pth@resnet50", "timm:a.b", "scratch"]
    assert distinct_names(starts) == [*starts[:2], "x.pth@resnet50", *starts[3:]]


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


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A pretrained run, its export for smaller images, and its file."""
    place = tmp_path_factory.mktemp("pretrained")
    pretrain = [*ANY_SIZE, "--knn-every", "0", "--imbalance-factor", "20"]
    succeed("pretrain", *pretrain, "--run-dir", place / "p")
    shutil.copytree(place / "p/exported", place / "small")
    config = json.loads((place / "small/config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 24, 24]
    (place / "small/config.json").write_text(json.dumps(config))
    shutil.copy(place / "p/exported/model.safetensors", place / "w.safetensors")
    return place


@pytest.mark.slow
def test_which_weights_to_start_from_is_one_command(empty, monkeypatch, pretrained):
    starts = ["scratch", pretrained / "p", pretrained / "small"]
    words = [*[w for w in ANY_SIZE if w not in ("--width", "4")], "--compare", *starts]
    names = ["1-scratch-seed0", "2-p-seed0", "3-small-seed0"]
    real, calls = training.export_backbone, []

    def killed_in_the_second(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError
        return real(*arguments, **options)

    monkeypatch.setattr(training, "export_backbone", killed_in_the_second)
    with pytest.raises(RuntimeError):
        call("finetune", *words)
    monkeypatch.setattr(training, "export_backbone", real)
    (folder,) = (empty / "runs").iterdir()
    assert [path.name for path in sorted(folder.glob("*-seed0"))] == names[:2]
    first, trained = snapshot(folder / names[0]), newest_weights(folder / names[1])

    said = succeed("finetune", *words).out
    assert "the same comparison, which goes on" in said
    assert [*(empty / "runs").iterdir()] == [folder]
    assert snapshot(folder / names[0]) == first
    again = newest_weights(folder / names[1])
    assert all(again[name].equal(tensor) for name, tensor in trained.items())

    configs = [read_yaml(folder / name / "config.yaml") for name in names]
    assert [c["init-from"] for c in configs] == [str(start) for start in starts]
    assert [c["image-size"] for c in configs] == [None, None, 24]
    assert [c["lr"] for c in configs] == [0.1, 0.03, 0.03]
    assert {c["width"] for c in configs} == {4}  # scratch has the network of the run
    assert {c["imbalance-factor"] for c in configs} == {20}  # and all have its data
    results = [read_results(folder / name / "results.json") for name in names]
    assert len({r.data.split_sha256 for r in results}) == 1
    assert len({r.evaluations[0].answers.test_sha256 for r in results}) == 1

    rows = json.loads((folder / "summary.json").read_text())
    assert [row["run"] for row in rows] == ["scratch", "p", "small"]
    for row, result in zip(rows, results, strict=True):
        accuracy = 100 * result.evaluations[0].accuracy.balanced
        assert row["columns"]["all"]["mean"] == pytest.approx(accuracy)
        assert row["intervals"]["all"]["low"] <= accuracy <= row["intervals"]["all"]["high"]
    assert [row["before"] is None for row in rows] == [True, False, False]
    table = said[said.index("Starts") :]
    assert all(f"{row['columns']['few']['mean']:.1f}" in table for row in rows)
    page = (folder / "report/index.html").read_text()
    assert page.count("<h2>") >= 2
    assert "Accuracy by start" in page
    assert "Few, 95 %" in page
    assert "Difference by group" in page

    # A word of another value is another comparison.
    asked = call("finetune", *words, "--tau", "2", "--run-dir", folder)
    assert asked.code == 2
    assert "exists and is never overwritten" in asked.err[0]
    run = finished_run(RunFolder(folder))
    assert [member.path.name for member in run.members] == names
    assert run.evaluations[0].accuracy == results[0].evaluations[0].accuracy


def test_a_file_says_of_which_network_it_is(pretrained):
    source = find_source(f"{pretrained / 'w.safetensors'}@resnet20_cifar")
    assert (source.weights, source.values) == (
        pretrained / "w.safetensors",
        {"backbone": "resnet20_cifar"},
    )
    assert find_source(f"{pretrained / 'w.safetensors'}@resnet18").values["image-size"] == 224


def test_a_start_that_does_not_fit_ends_it_before_anything_is_trained(empty, pretrained):
    words = [*TINY, "--compare", "scratch", f"{pretrained / 'w.safetensors'}@resnet18_cifar"]
    outcome = call("finetune", *words)
    assert outcome.code
    assert len(outcome.err) == 1
    assert "w.safetensors" in outcome.err[0]
    assert not list(empty.iterdir())


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


def test_sub_classes_first_then_a_linear_classifier(empty):
    small = ["--hidden-dim", "16", "--output-dim", "8", "--epochs", "2", "--cluster-after", "1"]
    words = [*SCRATCH, *small, "--loss", "sbcl", "--run-dir", "s"]
    succeed("finetune", *words, "--stages", "contrast", "classifier")
    one, two = (newest_weights(empty / "s" / f"seed0-{n}") for n in ("1-contrast", "2-classifier"))
    assert all(two[n].equal(one[n]) for n in two if n.startswith("backbone."))
    assert not two["classifier.weight"].equal(one["classifier.weight"])
    result = read_results(empty / "s" / "seed0-2-classifier" / "results.json")
    assert result.method == "la"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--loss hybrid_sc --stages contrast all", "hybrid_sc has no contrast that could be tr"),
        ("--stages contrast", "--stages: --loss la has no contrast"),
        ("--stages all --tune head", "--tune head: --stages says when the classifier alone"),
        ("--loss rcl --stages contrast all --tune adaptformer", "--tune adaptformer: no stage can"),
        ("--stages all --stage-epochs 1 2", "--stage-epochs: 2 numbers for 1 stages"),
        ("--stages all --stage-epochs 0", "--stage-epochs: each must be at least 1"),
        ("--seeds 1 1", "--seeds: 1 1 names one twice"),
        ("--compare scratch auto", "--compare: names what is started from; leave --init-from out"),
        ("--init-classifier", "--init-classifier: scratch is no fine-tuned run"),
        ("--loss sbcl --stages classifier all --stage-epochs 1 10", "--epochs: 10, and SBCL"),
        ("--head-lr -1", "--head-lr"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(empty, words, says):
    outcome = call("finetune", *SCRATCH, *words.split(), "--run-dir", "s")
    assert outcome.code == 2
    assert len(outcome.err) == 1
    assert says in outcome.err[0]
    assert not (empty / "s").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("scratch", "--compare: scratch alone; add what to compare it with, such as auto"),
        ("runs/p", "--compare: runs/p alone; add what to compare it with, such as scratch"),
        ("scratch scratch", "--compare: scratch is named twice"),
        ("scratch auto", "--compare: auto: no pretraining run under runs/"),
        ("scratch P P/", "/p/ are the same start"),
        ("scratch resnet50", "did you mean timm:resnet50?"),
        ("scrach P", "--compare: scrach is no run"),
        ("scratch timm:resnet5", "--compare: timm has no resnet5; near: resnet50"),
        ("scratch W@resnet2", "--backbone: unknown name 'resnet2'"),
    ],
)
def test_what_cannot_be_compared(empty, pretrained, words, says):
    words = words.replace("P", str(pretrained / "p"))
    words = words.replace("W", str(pretrained / "w.safetensors"))
    refuses("finetune", empty, f"--width 4 --compare {words}", 2, says)


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
