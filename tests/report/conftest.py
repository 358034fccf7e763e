import base64
import io

import numpy as np
import pytest
from PIL import Image

from ssl_lt.data.long_tail import exponential_counts, groups_by_count, groups_by_thirds
from ssl_lt.evaluate.picture_records import FeatureMap, NeighbourStrips, Pictures, Strip, Thumbnail
from ssl_lt.evaluate.scores.accuracy import accuracy
from ssl_lt.evaluate.scores.confusion import count_confusion
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.curves import Curve
from ssl_lt.report.records.results import DataDescription, Environment, RunResult, Timing


@pytest.fixture
def make_run(make_run_once):
    """As `make_run_once`, for a test of its own."""
    return make_run_once


@pytest.fixture
def make_pictures(make_pictures_once):
    """As `make_pictures_once`, for a test of its own."""
    return make_pictures_once


@pytest.fixture(scope="session")
def make_pictures_once():
    """Builder of pictures that go with a run: 300 points on the map, 4 strips of 5 neighbours."""

    def make(run, *, points=300):
        random = np.random.default_rng(1)
        num_classes = len(run.data.class_names)

        def thumbnail(c):
            image = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return Thumbnail(c, base64.b64encode(buffer.getvalue()).decode(), 0.5)

        strips = tuple(
            Strip(thumbnail(c), tuple(thumbnail((c + i // 2) % num_classes) for i in range(5)))
            for c in range(min(4, num_classes))
        )
        x, y = random.integers(0, 1001, (2, points)).tolist()
        classes = random.integers(0, num_classes, points).tolist()
        found = FeatureMap(tuple(x), tuple(y), tuple(classes), "t-SNE, made up.")
        return Pictures(found, NeighbourStrips(strips, "Made up."))

    return make


@pytest.fixture(scope="session")
def make_run_once():
    """Builder of a made-up run: make_run("name", boost=0.1, names=[...])."""

    def make(name="a", *, boost=0.0, names=None, largest=500, evaluations=("kNN", "linear probe")):
        names = tuple(names or (f"class {i}" for i in range(12)))
        num_classes, num_test = len(names), 40
        counts = np.array(exponential_counts(num_classes, largest=largest, imbalance_factor=100))
        rules = [groups_by_count(counts), groups_by_thirds(counts)]
        random = np.random.default_rng(sum(map(ord, name)))
        found = []
        for i, evaluation in enumerate(evaluations):
            p = 0.3 + 0.05 * i + 0.07 * np.log(counts) + boost * (np.arange(num_classes) % 3 - 0.5)
            true = np.repeat(np.arange(num_classes), num_test)
            right = random.random(true.size) < p[true]
            wrong = (true + random.integers(1, num_classes, true.size)) % num_classes
            predicted = np.where(right, true, wrong)
            found.append(
                Evaluation(
                    evaluation,
                    accuracy(predicted, true, num_classes=num_classes, groups=rules),
                    note="k = 20",
                    confusion=count_confusion(predicted, true, num_classes=num_classes),
                )
            )
        steps = tuple(range(10, 110, 10))
        return RunResult(
            name=name,
            verb="pretrain",
            method="sdclr",
            plugins=("bcl", "gh"),
            command="pretrain.py --method sdclr",
            data=DataDescription("made up", "0" * 64, tuple(counts.tolist()), names, tuple(rules)),
            configuration={"method": "sdclr", "optimizer": {"lr": 0.5}},
            environment=Environment("cpu", 1, 2, {"torch": "2.14"}),
            evaluations=tuple(found),
            curves={
                "loss": Curve(steps, tuple(5.0 / s for s in steps)),
                "knn": Curve((50, 100), (0.2, 0.3)),
                "lr": Curve(steps, tuple(0.1 for _ in steps)),
            },
            timing=Timing(61.0, 1234.0),
        )

    return make
