import subprocess
import sys

import pytest
import torch
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.classifiers import CosineClassifier, linear_classifier
from ssl_lt.models.heads import ProjectorOptions, projector


def layout(head):
    return [
        (type(m).__name__, *((m.in_features, m.out_features, m.bias is not None)))
        if isinstance(m, nn.Linear)
        else type(m).__name__
        for m in head.layers
    ]


def test_simclrs_two_layers_are_the_default():
    head = projector(512, ProjectorOptions())
    assert layout(head) == [
        ("Linear", 512, 512, True),
        "BatchNorm1d",
        "ReLU",
        ("Linear", 512, 128, False),
        "BatchNorm1d",
    ]
    assert head(torch.randn(4, 512)).shape == (4, 128)


def test_sdclrs_three_layers():
    head = projector(64, ProjectorOptions(num_layers=3, hidden_dim=32, output_dim=8))
    assert layout(head) == [
        ("Linear", 64, 32, True),
        "BatchNorm1d",
        "ReLU",
        ("Linear", 32, 32, False),
        "BatchNorm1d",
        "ReLU",
        ("Linear", 32, 8, False),
        "BatchNorm1d",
    ]


def test_one_layer_has_no_bias():
    assert layout(projector(6, ProjectorOptions(num_layers=1))) == [
        ("Linear", 6, 128, False),
        "BatchNorm1d",
    ]


def test_no_layer_is_refused():
    with pytest.raises(ConfigError, match=r"--projector\.num-layers: 0"):
        ProjectorOptions(num_layers=0)


@pytest.mark.slow
def test_options_do_not_import_timm_or_lightly():
    code = (
        "import sys, ssl_lt.models.heads, ssl_lt.pretrain.sdclr, ssl_lt.pretrain.focal,"
        "ssl_lt.losses.logit_adjustment; print({'timm', 'lightly'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_cosine_classifier_equals_the_equation_and_ignores_norms():
    torch.manual_seed(0)
    layer = CosineClassifier(6, 4, scale=30.0)
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.ones(4))
    x = torch.randn(3, 6)
    logits = layer(x)
    for b in range(3):
        for j in range(4):
            w = layer.weight[j].detach()
            want = 30 * float(x[b] @ w) / (float(x[b].norm()) * float(w.norm()))
            assert logits[b, j].item() == pytest.approx(want, rel=1e-5)
    layer.weight.data *= torch.tensor([[2.0], [0.1], [7.0], [1.0]])
    torch.testing.assert_close(layer(5 * x), logits)


def test_cosine_classifier_keeps_its_precision_under_autocast():
    torch.manual_seed(0)
    layer = CosineClassifier(64, 10)
    x = torch.randn(8, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = layer(x)
    torch.testing.assert_close(under, layer(x))


def test_linear_classifier_starts_kaiming_normal():
    torch.manual_seed(0)
    layer = linear_classifier(512, 100)
    assert layer.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert layer(torch.zeros(2, 512)).shape == (2, 100)
