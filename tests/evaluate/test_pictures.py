import base64
import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lt.core.groups import leading_groups
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.picture_records import read_pictures
from ssl_lt.evaluate.pictures import write_pictures
from tests.toolbox import call


# By count the second of them has no rare class.
@pytest.fixture(scope="module", params=[None, 2.0])
def digits(request):
    """The data, and features of both sets: the class in large, noise in small."""
    data = open_data(DataOptions(imbalance_factor=request.param))
    generator = torch.Generator().manual_seed(0)

    def features(table):
        noise = 0.05 * torch.randn(len(table), 10, generator=generator)
        one_hot = torch.nn.functional.one_hot(table.labels, 10).float()
        return Features(one_hot + noise, table.labels, torch.arange(len(table)))

    return data, features(data.train), features(data.test)


def test_pictures_are_of_the_images_they_name(digits, tmp_path):
    data, bank, queries = digits
    write_pictures(tmp_path, data, bank, queries, map_images=40)
    found = read_pictures(tmp_path, num_classes=10)
    assert len(found.feature_map.x) == 40
    assert min(*found.feature_map.x, *found.feature_map.y) >= 0
    assert max(*found.feature_map.x, *found.feature_map.y) == 1000
    strips = found.neighbours.strips
    group = leading_groups(data.groups)
    shown = [strip.query.class_number for strip in strips]
    expected = [
        np.isin(shown[i : i + 3], members).all()
        for i, members in zip((0, 3, 6), (group.many, group.medium, group.few), strict=True)
    ]
    assert all(expected)
    assert len(strips) == 9
    for strip in strips:
        assert len(strip.nearest) == 5
        # The features are nearly the classes.
        assert strip.nearest[0].class_number == strip.query.class_number
        values = [image.similarity for image in strip.nearest]
        assert values == sorted(values, reverse=True)
    # The picture shown is the nearest row of the training set.
    query = next(i for i, image in enumerate(data.test.pixels) if same(image, strips[0].query.png))
    cosines = torch.nn.functional.cosine_similarity(bank.features, queries.features[query][None])
    assert same(data.train.pixels[int(cosines.argmax())], strips[0].nearest[0].png)


def same(pixels, png):
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
    return np.array_equal(pixels.permute(1, 2, 0).numpy(), shown)


def test_again_is_the_same_and_without_a_map_there_is_none(digits, tmp_path):
    data, bank, queries = digits
    write_pictures(tmp_path, data, bank, queries, map_images=12)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_pictures(tmp_path, data, bank, queries, map_images=12)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    write_pictures(tmp_path, data, bank, queries, map_images=0)
    assert [path.name for path in tmp_path.iterdir()] == ["neighbours.json"]


@pytest.mark.slow
def test_commands_make_them_and_damaged_ones_are_named(finished, empty):
    report = finished.pretrained / "report"
    page = (report / "index.html").read_text()
    assert "Map of the test features" in page
    assert "Nearest training images" in page
    shutil.copytree(finished.pretrained, "run")
    (empty / "run/report/map.json").write_text('{"x": 1')
    outcome = call("report", "run", finished.finetuned, "--output", "out/index.html")
    assert outcome.code == 3
    assert len(outcome.err) == 1
    assert "run/report/map.json: damaged" in outcome.err[0]
    compared = (empty / "out/index.html").read_text()
    assert compared.count(": by group</h3>") == 1
    assert "2 runs compared" in compared
