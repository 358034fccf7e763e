"""The inspection script, on scores whose statistics are known."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.data.splits.split import Recipe, Split, write_split
from ssl_lt.engine.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssl_lt.models.backbones import create_backbone
from ssl_lt.models.pruned_twin import prunable_weights

SCRIPT = Path(__file__).parents[2] / "scripts" / "inspect_pretraining.py"
SPEC = importlib.util.spec_from_file_location("inspect_pretraining", SCRIPT)
inspect = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(inspect)

COUNTS = np.array([120, 60, 12])
LABELS = np.repeat(np.arange(3), COUNTS)


def test_few_over_many_counts_pairs():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 5, len(LABELS)) + (LABELS == 2)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[LABELS == 2] for b in score[LABELS == 0]]
    for groups in (groups_by_count(COUNTS), groups_by_thirds(COUNTS)):
        assert inspect.auc_few_vs_many(score, LABELS, groups) == pytest.approx(np.mean(pairs))


def test_few_over_many_needs_both_groups():
    counts = np.array([200, 150, 120])
    assert inspect.auc_few_vs_many(LABELS + 0.0, LABELS, groups_by_count(counts)) is None


@pytest.mark.parametrize(("sign", "correlation", "auc"), [(1, "-1.000", 1), (-1, "+1.000", 0)])
def test_a_score_that_follows_rarity_is_found(sign, correlation, auc):
    score = sign * LABELS.astype(float)
    score[5] = np.nan  # not seen yet
    first, *others = inspect.rarity_lines("memorisation", score, LABELS, COUNTS)
    assert first.endswith(correlation)
    assert len(others) == 2
    assert all(f"few over many {auc:.3f}" in line for line in others)


def test_equal_scores_are_said_to_be_equal():
    (line,) = inspect.rarity_lines("memorisation", np.full(len(LABELS), 0.5), LABELS, COUNTS)
    assert "equal" in line


def test_total_variation_sorts_pads_and_normalises():
    assert inspect.total_variation(np.array([0.2, 0.8]), np.array([8, 2])) == 0
    assert inspect.total_variation(np.ones(4), np.ones(2)) == pytest.approx(0.5)
    first, second = np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.4])
    assert inspect.total_variation(first, second) == pytest.approx((0.1 + 0.1 + 0.2) / 2)


def test_entropy_of_equal_shares_is_the_logarithm_of_their_number():
    assert inspect.entropy(np.array([3.0, 3, 0, 3])) == pytest.approx(math.log(3))
    assert inspect.entropy(np.array([0.0, 5])) == 0


def test_mask_is_cut_in_layers():
    mask = np.array([1, 0, 0, 0, 1, 1, 1, 0], dtype=bool)
    total, first, second = inspect.mask_lines(mask, {"conv1.weight": 4, "conv2.weight": 4})
    assert "0.500 of 8" in total
    assert first.split() == ["conv1.weight", "0.250", "of", "4"]
    assert second.split() == ["conv2.weight", "0.750", "of", "4"]


def write_run(folder):
    """A run with scores, split and checkpoint, as far as the script reads them."""
    values = {"verb": "pretrain", "backbone": "resnet20_cifar", "width": 4, "image-size": 32}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    recipe = Recipe("exponential", 10.0, 0)
    rows = np.arange(len(LABELS))
    split = Split("digits", recipe, len(rows), "", tuple(COUNTS.tolist()), rows)
    write_split(folder / "split.json", split)
    (folder / "scores").mkdir()
    labels = torch.from_numpy(LABELS)
    for epoch, sign in ((1, 1.0), (2, -1.0)):
        scores = {"disagreement": sign * labels.float(), "gh_cluster": labels,
                  "gh_prior": torch.from_numpy(COUNTS / COUNTS.sum()).float()}  # fmt: skip
        save_file(scores, folder / f"scores/epoch-{epoch:04d}.safetensors")
    backbone = create_backbone("resnet20_cifar", width=4, image_size=32)
    size = sum(weight.numel() for weight in prunable_weights(backbone).values())
    mask = torch.ones(size, dtype=torch.bool)
    mask[:108] = False  # the stem: 4 channels of 3 x 3 x 3
    checkpoint = Checkpoint(7, {}, {"memory": {"pruning.mask": mask}})
    save_checkpoint(folder / "checkpoints", checkpoint, keep=2)


def test_the_newest_scores_of_a_run_are_shown(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["inspect", str(tmp_path / "run")])
    assert inspect.main() == 0
    output = capsys.readouterr()
    shown = output.out
    assert output.err == ""
    assert "scores after epoch 2" in shown
    assert "disagreement: Spearman's correlation with the class's images +1.000" in shown
    assert "memorisation: not kept by this run" in shown
    assert "total variation 0.000" in shown
    assert "0 are empty" in shown
    layers = [line.split() for line in shown.splitlines() if ".weight" in line]
    assert layers[0] == ["conv1.weight", "0.000", "of", "108"]
    assert all(share == "1.000" for _, share, _, _ in layers[1:])


def test_what_is_missing_is_one_line_each(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inspect", str(tmp_path)])
    assert inspect.main() == 2
    assert (
        capsys.readouterr().err == f"error: {tmp_path}: not a run folder (no config.yaml in it)\n"
    )
    (tmp_path / "config.yaml").write_text("verb: pretrain\n")
    assert inspect.main() == 3
    scores, checkpoint = capsys.readouterr().err.splitlines()
    assert scores.startswith(f"error: {tmp_path / 'scores'}: no scores")
    assert checkpoint == f"error: {tmp_path / 'checkpoints'}: no checkpoint yet"
