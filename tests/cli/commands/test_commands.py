from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import timm
import torch

import ssl_lt.models.backbones  # noqa: F401  (registers our networks with timm)
from ssl_lt.cli.main import main
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models.backbones import build_backbone
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.weights import load_backbone_weights
from tests.toolbox import TINY, call, logged, snapshot, succeed


def test_a_run_folder_has_what_it_should(finished):
    for path in (finished.pretrained, finished.finetuned):
        names = {p.name for p in path.iterdir()}
        expected = {
            "config.yaml", "split.json", "metrics.jsonl", "timing.jsonl", "checkpoints",
            "exported", "results.json", "report", "lock", "inference.json",
        }  # fmt: skip
        assert names == expected | ({"scores"} if path == finished.pretrained else set())
    assert {p.name for p in finished.path.iterdir()} == {"runs"}


def test_auto_starts_from_the_newest_pretraining(finished):
    assert f"from runs/{finished.pretrained.name}, step 9: " in finished.said["finetune"]
    config = RunFolder(finished.finetuned).config.read_text()
    assert f"init-from: runs/{finished.pretrained.name}\n" in config
    assert "width: 4\n" in config


def test_auto_without_any_run_trains_from_scratch_and_says_so(empty):
    said = succeed("finetune", *TINY, "--eval-every", "0").out
    assert "no pretraining run under runs/: training from scratch" in said
    run = next(empty.glob("runs/finetune-la-digits-*"))
    assert "init-from: scratch\n" in (run / "config.yaml").read_text()
    assert RunFolder(run).is_finished


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--width", "8"], r"conv1.weight is \(4, 3, 3, 3\), expected \(8, 3, 3, 3\)"),
        (["--backbone", "resnet32_cifar"], "missing: layer"),
    ],
)
@pytest.mark.parametrize("part", ["", "exported"])
def test_a_run_with_another_network_is_refused_by_key(finished, empty, words, says, part):
    network = [] if not part or "--width" in words else ["--width", "4"]
    outcome = call("finetune", "--init-from", finished.pretrained / part, *words, *network)
    assert outcome.code == 4
    assert len(outcome.err) == 1
    assert re.search(says, outcome.err[0])
    assert "model.safetensors" in outcome.err[0]
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_an_exported_folder_and_a_file_start_a_finetuning(finished, empty):
    for path in ("exported", "exported/model.safetensors"):
        words = ["--init-from", finished.pretrained / path, "--run-dir", path.replace("/", "-")]
        said = succeed("finetune", *TINY, *words, "--eval-every", "0").out
        assert "114 tensors loaded, 0 missing, 0 not used" in said


def test_the_exported_folder_is_a_plain_timm_model(finished):
    for run in (finished.pretrained, finished.finetuned):
        exported = timm.create_model(f"local-dir:{run / 'exported'}", pretrained=True).eval()
        own, _ = build_backbone(ModelOptions(width=4), image_size=16, seed=5)
        newest = max((run / "checkpoints").iterdir())
        load_backbone_weights(own, newest / "model.safetensors")
        images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            features = exported(images)
            assert features.shape == (4, 16)
            assert torch.equal(features, own.eval()(images))
        assert exported.pretrained_cfg["input_size"] == (3, 16, 16)
        assert exported.pretrained_cfg["mean"] == pytest.approx([0.31267474] * 3)


def test_evaluation_judges_the_newest_run_or_the_one_named(finished):
    assert f"evaluating {finished.pretrained} on 300" in finished.said["evaluate"]
    assert f"evaluating runs/{finished.finetuned.name} on 300" in finished.said["evaluate newest"]
    expected = {"kNN", "nearest class mean", "linear probe", "linear probe, long-tailed"}
    for run, names in (
        (finished.pretrained, expected),
        (finished.finetuned, expected | {"classifier"}),
    ):
        results = json.loads((run / "results.json").read_text())
        found = {e["name"]: e for e in results["evaluations"]}
        assert found.keys() == names
        for evaluation in found.values():
            assert 0 <= evaluation["accuracy"]["balanced"] <= 1
            assert sum(evaluation["confusion"]["images"]) == 300
        assert (run / "report/index.html").is_file()


def test_the_classifier_is_judged_as_it_was_at_the_end_of_training(finished):
    accuracies = [line["accuracy"] for line in logged(finished.finetuned) if "accuracy" in line]
    results = json.loads((finished.finetuned / "results.json").read_text())
    classifier = next(e for e in results["evaluations"] if e["name"] == "classifier")
    assert classifier["accuracy"]["balanced"] == pytest.approx(accuracies[-1], abs=0.004)


def test_evaluation_without_a_run(empty):
    outcome = call("evaluate")
    assert outcome.code == 2
    assert outcome.err == ["error: --run: no run under runs/; pretrain.py makes one"]


@pytest.mark.slow
def test_an_unfinished_run_can_be_judged_and_then_goes_on(finished, empty):
    shutil.copytree(finished.pretrained, "cut")
    shutil.rmtree("cut/exported")
    (empty / "cut/results.json").unlink()
    quick = ["--probe-on", "long-tail", "--map-images", "0"]
    said = succeed("evaluate", "--run", "cut", *quick).out
    assert "note: this run is not finished; taking it after step 9" in said
    said = succeed("pretrain", "--resume", "cut").out
    assert "nothing to do" not in said
    assert RunFolder(empty / "cut").is_finished
    metrics = (finished.pretrained / "metrics.jsonl").read_bytes()
    assert (empty / "cut/metrics.jsonl").read_bytes() == metrics


def test_a_finetuning_goes_on_without_the_run_it_came_from(finished, empty):
    shutil.copytree(finished.finetuned, "cut")
    shutil.rmtree("cut/exported")
    succeed("finetune", "--resume", "cut")
    weights = "exported/model.safetensors"
    assert (empty / "cut" / weights).read_bytes() == (finished.finetuned / weights).read_bytes()


def test_report_compares_runs(finished, empty):
    runs = [finished.pretrained, finished.finetuned / "results.json"]
    said = succeed("report", *runs, "--output", "page.html").out
    assert f"report: {empty / 'page.html'}" in said
    page = (empty / "page.html").read_text()
    assert finished.pretrained.name in page
    assert finished.finetuned.name in page


def test_report_reads_a_file_of_options(finished, empty):
    (empty / "r.yaml").write_text("output: other.html\n")
    succeed("report", finished.pretrained, "--config", "r.yaml")
    assert (empty / "other.html").is_file()


def test_report_names_what_it_cannot_read_and_shows_the_rest(finished, empty):
    outcome = call("report", "nowhere", finished.pretrained)
    assert outcome.code == 3
    assert len(outcome.err) == 1
    assert "nowhere" in outcome.err[0]
    assert (empty / "runs/report/index.html").is_file()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "report: no run given"),
        (["--out", "x.html"], 2, "unknown flag --out"),
        (["a", "--output", "x.txt"], 2, "--output: x.txt does not end in .html"),
        (["nowhere"], 3, "nowhere"),
    ],
)
def test_report_refuses_in_one_line(empty, words, code, says):
    outcome = call("report", *words)
    assert outcome.code == code
    assert len(outcome.err) == 1
    assert says in outcome.err[0]
    assert list(empty.iterdir()) == []


def test_doctor_names_device_and_libraries(empty):
    outcome = call("doctor")
    assert outcome.code in (0, 2)
    assert outcome.err == []
    for name in ("device", "bf16", "torchvision", "faiss", "disk"):
        assert any(line[2:].startswith(name) for line in outcome.out.splitlines()), name
    ending = "nothing is wrong" if outcome.code == 0 else "to look at"
    assert outcome.out.rstrip().endswith(ending)
    assert call("doctor", "now").err == ["error: doctor: takes no arguments, got 'now'"]


def test_doctor_looks_at_the_shared_memory(empty, monkeypatch):
    def usage(path):
        free = 64 << 20 if str(path) == "/dev/shm" else 1 << 40
        return shutil._ntuple_diskusage(64 << 20, 0, free)

    monkeypatch.setattr("shutil.disk_usage", usage)
    outcome = call("doctor")
    assert outcome.code == 2  # 1 is a fault of ssl_lt
    assert "! memory      64 of 64 MiB free in /dev/shm" in outcome.out
    assert "--shm-size" in outcome.out
    assert "--num-workers 0" in outcome.out


def test_help_says_which_data_is_the_default(empty):
    for verb in ("finetune", "evaluate", "tail"):
        told = " ".join(call(verb, "--help").out.split())
        assert "Default: that of the run, otherwise digits." in told
    for verb in ("predict", "embed"):
        assert "default: )" not in call(verb, "--help-all").out


def test_nothing_is_written_by_help(empty):
    for verb in ("pretrain", "finetune", "evaluate", "report", "tail", "export", "doctor"):
        assert "usage" in call(verb, "--help").out
    assert snapshot(empty) == {}


@pytest.mark.slow
def test_the_console_script_ends_with_the_code(empty, monkeypatch, capsys):
    def in_a_process(*words):
        command = [sys.executable, "-c", "from ssl_lt.cli.main import main; main()", *words]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.returncode, found.stderr.strip()

    def here(*words):
        monkeypatch.setattr("sys.argv", ["ssl-lt", *words])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, capsys.readouterr().err.strip()

    for run, words, code, says in (
        (here, ["--help"], 0, ""),
        (here, ["trains"], 2, "error: unknown command 'trains', did you mean retrain? See ssl-lt "
        "--help"),
        (in_a_process, ["pretrain", "--epoch", "1"], 2, "error: unknown flag --epoch; did you "
        "mean --epochs?"),
    ):  # fmt: skip
        assert run(*words) == (code, says)
    assert snapshot(empty) == {}
