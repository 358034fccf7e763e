"""Test-time ensembling against the views written out."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_lt.evaluate.view_ensemble import ViewEnsemble
from tests.toolbox import call, succeed


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))


def images():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_an_image_and_its_mirror_image():
    net, x = network(), images()
    want = (net(x) + net(torch.stack([image.flip(2) for image in x]))) / 2
    torch.testing.assert_close(ViewEnsemble(net, "flip")(x), want)


def test_five_crops_of_the_enlarged_image():
    net, x = network(), images()
    larger = F.interpolate(x, (40, 40), mode="bicubic", antialias=True)
    crops = [
        larger[:, :, :16, :16],
        larger[:, :, :16, 24:],
        larger[:, :, 24:, :16],
        larger[:, :, 24:, 24:],
        larger[:, :, 12:28, 12:28],
    ]
    want = sum(net(crop) for crop in crops) / 5
    torch.testing.assert_close(ViewEnsemble(net, "five-crops")(x), want)


def test_of_an_image_without_detail_every_view_says_the_same():
    net, x = network(), torch.full((2, 3, 16, 16), 0.3)
    for ensemble in ("none", "flip", "five-crops"):
        torch.testing.assert_close(ViewEnsemble(net, ensemble)(x), net(x))


@pytest.mark.slow
def test_evaluate_reports_it_beside_the_plain_answer(finished, empty):
    run = shutil.copytree(finished.finetuned, empty / "run")
    said = succeed("evaluate", "--run", run, "--ensemble", "flip", "--map-images", "0")
    note = "note: --ensemble flip: training mirrored no image (--view.flip-probability 0)"
    assert note in said.out  # of digits
    text = (run / "results.json").read_text()
    assert '"classifier, flip"' in text
    assert '"classifier"' in text
    outcome = call("evaluate", "--run", finished.pretrained, "--ensemble", "flip")
    assert outcome.code == 2
    assert "--ensemble" in outcome.err[0]
    assert "has no classifier" in outcome.err[0]
