"""`ssl_lt.load`: a module with its transform, from a run and from what was exported of it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import ssl_lt
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.runs.life.place import Moved
from ssl_lt.runs.life.saved_run import load_network, open_run_data, run_config_of

pytestmark = pytest.mark.slow  # they train


@pytest.fixture
def judged(place, monkeypatch):
    """The run's own network, and its first test image as an evaluation sees it."""
    monkeypatch.chdir(place)
    run = RunFolder(place / "run")
    config = run_config_of(run, moved=Moved(), num_workers=0)
    data = open_run_data(run, config)
    task = load_network(run, config, data).task.eval()
    return task, data


@pytest.mark.parametrize("name", ["run", "model", "model/model.safetensors"])
def test_it_gives_the_logits_and_features_of_the_run(place, judged, name):
    task, data = judged
    model = ssl_lt.load(place / name)
    assert not model.training
    assert model.class_names == ("ash", "birch", "cedar")
    assert model.counts_per_class == data.split.counts_per_class
    file = place / "photos/test" / data.source.test.name(0).removeprefix("test/")
    with Image.open(file) as image:
        x = model.transform(image)[None]
    wanted = (data.test.pixels[:1, :, 1:17, 1:17].float() / 255 - model.view.mean) / model.view.std
    torch.testing.assert_close(x, wanted, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        features = task.backbone(x)
        torch.testing.assert_close(model.features(x), features, rtol=1e-5, atol=1e-5)
        logits = task.classifier(features)
        torch.testing.assert_close(model(x), logits, rtol=1e-5, atol=1e-5)


def test_onnx_gives_logits_and_no_features(place, judged):
    model = ssl_lt.load(place / "model" / "model.onnx")
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        wanted = ssl_lt.load(place / "run")(x)
    torch.testing.assert_close(model(x), wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(ssl_lt.UserError, match="gives logits and no features"):
        model.features(x)


def test_transform_takes_any_mode(place):
    model = ssl_lt.load(place / "model")
    for mode in ("L", "P", "RGBA", "CMYK"):
        assert model.transform(Image.new(mode, (50, 40))).shape == (3, 16, 16)


def test_loading_draws_nothing_from_torch(place):
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    ssl_lt.load(place / "run")
    assert torch.equal(torch.rand(1), wanted)


def test_a_file_of_others_and_a_lost_classifier_are_refused(place, tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ssl_lt.UserError, match="does not say what network it is of"):
        ssl_lt.load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(
        (place / "cosine-model/model.safetensors").read_bytes()
    )
    with pytest.raises(ssl_lt.UserError, match="no such file, and the classifier is in it"):
        ssl_lt.load(tmp_path / "b.safetensors")
    (tmp_path / "c.onnx").write_bytes(b"no model")
    with pytest.raises(ssl_lt.UserError, match="cannot be read as ONNX"):
        ssl_lt.load(tmp_path / "c.onnx")
