"""`finetune.py --loss` with a contrast, from the command line to the results, on the digits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_lt.report.records.results import read_results
from tests.toolbox import TINY, call, logged, succeed

pytestmark = pytest.mark.slow  # most of them train

CONTRASTS = ["scl", "bcl", "rcl", "bcl_rcl"]
FEW = ["--init-from", "scratch", "--imbalance-factor", "100", "--eval-every", "0"]
SMALL = [*TINY, *FEW, "--hidden-dim", "16", "--output-dim", "8"]


def contrasts(run):
    """The contrast in each line of the log that has one."""
    found = [line["contrast"] for line in logged(run) if "contrast" in line]
    assert found
    return found


@pytest.mark.parametrize("loss", CONTRASTS)
def test_trains_and_is_judged(empty, loss):
    succeed("finetune", *SMALL, "--loss", loss, "--run-dir", "run", "--augment", "autoaugment")
    assert all(0 < contrast < 20 for contrast in contrasts(empty / "run"))
    result = read_results(empty / "run" / "results.json")
    assert [e.name for e in result.evaluations] == ["classifier"]
    assert 0 <= result.evaluations[0].accuracy.balanced <= 1


@pytest.mark.parametrize("words", ["--loss bcl --mix concutmix", "--loss ldam --mix both"])
def test_mixed_images_train_and_are_judged(empty, words):
    succeed("finetune", *TINY, *FEW, "--run-dir", "run", *words.split())
    assert len(read_results(empty / "run" / "results.json").evaluations) == 1


@pytest.mark.slow
def test_a_run_can_be_judged_again_with_its_heads_in_the_checkpoint(empty):
    succeed("finetune", *SMALL, "--loss", "bcl", "--run-dir", "run")
    first = read_results(empty / "run" / "results.json").evaluations[0].accuracy
    succeed("evaluate", "--run", "run", "--probe-on", "long-tail", "--map-images", "0")
    again = read_results(empty / "run" / "results.json").evaluations
    assert next(e for e in again if e.name == "classifier").accuracy == first


def test_cosine_classifier_and_compression(empty):
    flags = "--classifier cosine --compression 0.5 --compression-start 0 --use-prototypes"
    succeed("finetune", *SMALL, "--loss", "rcl", "--run-dir", "run", *flags.split())
    file = next((empty / "run" / "checkpoints").glob("step-*"))
    names = [p.name for p in file.iterdir()]
    assert any("memor" in name for name in names), names


@pytest.mark.parametrize("mix", ["none", "concutmix"])
def test_pictures_that_loader_workers_crop(empty, mix):
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name, count in (("a", 12), ("b", 6)):
            (empty / "photos" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (40, 36, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(empty / "photos" / part / name / f"{number}.png")
    words = "--data folder:photos --cache-mib 0 --image-size 24 --batch-size 6 --epochs 1 --width 4"
    words += " --num-workers 0 --mixed-precision no --init-from scratch --augment autoaugment"
    succeed("finetune", *words.split(), "--loss", "bcl_rcl", "--mix", mix, "--run-dir", "run")
    assert all(0 < contrast < 20 for contrast in contrasts(empty / "run"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--loss rcl --tune head", "--tune head: --loss rcl trains the backbone"),
        ("--loss bcl --temperature 0", "--temperature"),
        ("--loss bcl --use-prototypes", "--use-prototypes belongs to --loss rcl"),
        ("--loss la --contrast-weight 1", "--contrast-weight belongs to --loss"),
        ("--loss rlc", "did you mean"),
        ("--loss la --mix-alpha 1", "--mix-alpha has no effect without --mix"),
        ("--mix cutmix --rectify-after 0", "--rectify-after has no effect without --mix concutmix"),
        ("--mix cutmx", "--mix"),
        ("--mix mixup --mix-alpha 0", "--mix-alpha: 0.0 is not a positive number"),
        ("--no-cutout", "cutout has no effect without --augment autoaugment"),
        ("--loss scl --mix concutmix", "--mix concutmix: --loss scl has no prototypes"),
        ("--loss paco --mix mixup", "--mix mixup: --loss paco also compares"),
        ("--loss hybrid_sc", "--epochs: 1, and the hybrid losses train the classifier from the"),
        ("--loss sbcl --epochs 10", "--epochs: 10, and SBCL finds its sub-classes after --clus"),
        (
            "--loss hybrid_sc --epochs 2 --sampler class_balanced",
            "--sampler: --loss hybrid_sc balances",
        ),
        (
            "--loss la --view.hue 0",
            "--view.hue has no effect without a loss with",
        ),
    ],
)
def test_mistakes_end_in_one_line(empty, words, says):
    tiny = [*TINY, "--init-from", "scratch"]
    outcome = call("finetune", *tiny, *words.split())
    assert outcome.code == 2
    assert len(outcome.err) == 1
    assert says in outcome.err[0]


@pytest.mark.parametrize("more", ["--loss cb_sigmoid", "--loss gpaco", "--seeds 0 1"])
def test_one_class_is_refused(empty, more):
    (empty / "photos/train/a").mkdir(parents=True)
    for number in range(4):
        pixels = np.full((20, 20, 3), 50 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(empty / f"photos/train/a/{number}.png")
    words = "--data folder:photos/train --image-size 16 --batch-size 2 --init-from scratch"
    outcome = call("finetune", *words.split(), *more.split(), "--run-dir", "run")
    assert outcome.code == 2
    assert "has one class; fine-tuning needs two classes" in outcome.err[-1]
    assert not (empty / "run").exists()
