"""kNN, linear probes and what a method knows of the tail, along one long pretraining.

    python benchmarks/over_time.py --data-root DATA --method gh --seed 0 --output runs/over_time
    python benchmarks/over_time.py --draw --output runs/over_time

CIFAR-10-LT with 500 images in the largest class and 5 in the smallest, 1,236 in all; ResNet-18 of
width 16, 1,000 epochs, batch 256, learning rate 0.3 with a cosine. What the papers do in days fits
into an hour or two of one core. The network is judged on the 10,000 test images at the epochs of
EPOCHS: the run keeps all checkpoints, and each that is asked for is evaluated as a run of its own.
SDCLR and BCL keep a score of each training image, disagreement and memorisation; its rank
correlation with the size of the image's class (Spearman) is below 0 where rare images stand out.
The same command goes on after a kill; METHOD-seedN-of-1000.json has a row for each epoch. With
--draw the rows that are there become figures/over-time.svg: means over the seeds, bands from the
lowest to the highest.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from _process import in_new_process, report
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.stats import spearmanr

import ssl_lt
from ssl_lt.data.long_tail import exponential_counts, subsample
from ssl_lt.data.options import DataOptions
from ssl_lt.data.sources.registry import open_source
from ssl_lt.data.splits.split import read_split
from ssl_lt.report.figures.figure import MARKERS, SERIES, Figure, drawing, style, to_svg
from ssl_lt.report.figures.files import write_figures

METHODS = {
    "simclr": {"method": "simclr"},
    "sdclr": {"method": "sdclr"},
    "bcl": {"plugins": ["bcl"]},
    "gh": {"plugins": ["gh"]},
}
EPOCHS = (10, 20, 50, 100, 200, 500, 1000)
CORRELATION = "correlation of score and class size"
SHOWN = (
    "kNN",
    "linear probe",
    "linear probe, few",
    "linear probe, std",
    "linear probe, long-tailed",
    CORRELATION,
)
COUNTS = exponential_counts(10, largest=500, imbalance_factor=100)
BATCH_SIZE = 256


def labels_of(data_root: Path) -> NDArray[np.int64]:
    """(50000,) of CIFAR-10's training images."""
    source = open_source("cifar10", DataOptions(data="cifar10", data_root=data_root))
    return source.train.labels.numpy()


def write_rows(path: Path, data_root: Path) -> None:
    """The rows of the training set, a text file for `--split`."""
    labels = labels_of(data_root)
    path.write_text("\n".join(map(str, subsample(labels, COUNTS, seed=0))) + "\n")


def train(run: Path, flags: dict[str, Any]) -> None:
    """Trains, or goes on."""
    ssl_lt.pretrain(**({"resume": run} if (run / "config.yaml").is_file() else flags))


def judge(run: Path, epoch: int, place: Path, data_root: Path) -> dict[str, float]:
    """What is to be said of the network after an epoch.

    Its accuracies are those of a copy of the run that has this checkpoint alone.
    """
    shutil.rmtree(place, ignore_errors=True)
    left_out = shutil.ignore_patterns(
        "checkpoints", "scores", "exported", "report", "results.json", "lock"
    )
    shutil.copytree(run, place, ignore=left_out)
    name = f"step-{sum(COUNTS) // BATCH_SIZE * epoch:06d}"
    shutil.copytree(run / "checkpoints" / name, place / "checkpoints" / name)
    judged = ssl_lt.evaluate(run=place, probe_on=["all", "long-tail"], map_images=0)
    row = {}
    for evaluation in judged.evaluations:
        by_thirds = evaluation.accuracy.groups[-1]
        row[evaluation.name] = 100 * evaluation.accuracy.balanced
        row[f"{evaluation.name}, few"] = 100 * by_thirds.few
        row[f"{evaluation.name}, std"] = 100 * by_thirds.std
    file = run / "scores" / f"epoch-{epoch:04d}.safetensors"
    scores = load_file(file) if file.is_file() else {}
    sizes = np.asarray(COUNTS)[labels_of(data_root)[list(read_split(run / "split.json").indices)]]
    for name in scores.keys() & {"disagreement", "memorisation"}:
        row[CORRELATION] = float(spearmanr(scores[name], sizes, nan_policy="omit").statistic)
    return row


def draw(output: Path) -> None:
    """One panel a measure, one line a method, of all runs of 1,000 epochs."""
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for method in METHODS:
        tables = sorted(output.glob(f"{method}-seed*-of-{max(EPOCHS)}.json"))
        if tables:
            found[method] = [json.loads(table.read_text()) for table in tables]
    with style():
        fig = drawing(7.2, 7.2)
        panels = fig.subplots(3, 2, sharex=True)
        for axes, measure in zip(panels.flat, SHOWN, strict=True):
            for i, seeds in enumerate(found.values()):
                epochs = [
                    e for e in EPOCHS if all(measure in seed.get(str(e), {}) for seed in seeds)
                ]
                values = [[seed[str(e)][measure] for seed in seeds] for e in epochs]
                look = {"color": SERIES[i], "linewidth": 1.5, "marker": MARKERS[i], "markersize": 4}
                axes.plot(epochs, [mean(v) for v in values], **look)
                low, high = ([side(v) for v in values] for side in (min, max))
                axes.fill_between(epochs, low, high, color=SERIES[i], alpha=0.2, linewidth=0)
            axes.set(xscale="log", title=measure, ylabel="" if measure == CORRELATION else "%")
        for axes in panels[-1]:
            axes.set(xlabel="epoch", xticks=EPOCHS, xticklabels=EPOCHS)
            axes.minorticks_off()
        svg = to_svg(fig, "Accuracy against epochs, by method")
    figure = Figure("Over time", "", svg, tuple(found))
    write_figures([("", figure)], output / "index.html")


def main() -> None:
    """Prints a table and writes it as JSON."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--data-root", type=Path, default=Path("data"), help="folder with CIFAR-10")
    flags.add_argument("--method", choices=METHODS, default="simclr")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--output", type=Path, default=Path("runs/over_time"))
    flags.add_argument("--quick", action="store_true", help="two epochs, to see that it works")
    flags.add_argument("--draw", action="store_true", help="train nothing, draw what is there")
    asked = flags.parse_args()
    if asked.draw:
        draw(asked.output)
        return
    epochs = (1, 2) if asked.quick else EPOCHS
    asked.output.mkdir(parents=True, exist_ok=True)
    rows = asked.output / "rows.txt"
    if not rows.is_file():
        write_rows(rows, asked.data_root)
    run = asked.output / f"{asked.method}-seed{asked.seed}-of-{max(epochs)}"
    table = asked.output / f"{run.name}.json"
    found = json.loads(table.read_text()) if table.is_file() else {}
    common = {
        "data": "cifar10", "data_root": asked.data_root, "split": rows, "run_dir": run,
        "seed": asked.seed, "backbone": "resnet18_cifar", "width": 16, "epochs": max(epochs),
        "batch_size": BATCH_SIZE, "lr": 0.3, "warmup_epochs": min(10, max(epochs) / 2),
        "knn_every": 0, "keep_checkpoints": max(epochs) + 1,
    }  # fmt: skip
    if str(max(epochs)) not in found:
        in_new_process(train, run, common | METHODS[asked.method])
    for epoch in epochs:
        if str(epoch) not in found:
            place = asked.output / f"{run.name}-epoch{epoch}"
            found[str(epoch)] = in_new_process(judge, run, epoch, place, asked.data_root)
            table.write_text(json.dumps(found, indent=2) + "\n")
    report({f"epoch {epoch}": row for epoch, row in found.items()}, json_path=None)


if __name__ == "__main__":
    main()
