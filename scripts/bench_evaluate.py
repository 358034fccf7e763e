"""kNN and linear probes at scale: against lightly's kNN and against the published Adam probe.

- kNN: every query against the whole bank, beside lightly's `knn_predict` on the same rows in
  batches of queries (it needs the (queries, bank) similarities at once), and how often the answers
  agree;
- probe: one L-BFGS fit and the whole probe, which chooses its L2 strength, beside the 500-epoch
  Adam probe, on the same features, with the test accuracy of each, its 95 % interval and that of
  its difference from Adam's.

Features are drawn, a mixture with a decaying spectrum, or those of finished runs with --runs;
several runs are put side by side, so that four of 128 numbers make 512. --features keeps them in a
file, or reads them from it. Processor time with one thread is what can be compared beside other
programs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from lightly.utils.benchmarking import knn_predict as lightly_knn
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions, knn_predict
from ssl_lt.evaluate.probes.linear_probe import LinearProbeOptions, ProbeResult, linear_probe
from ssl_lt.evaluate.probes.published_probe import BCL, published_probe
from ssl_lt.evaluate.scores.intervals import bootstrap, paired_difference
from ssl_lt.runs.life.saved_run import load_network, open_saved_run

TEMPERATURE = 0.1
LIGHTLY_BATCH = 512


def drawn(num_rows: int, dim: int, num_classes: int, seed: int) -> Features:
    """Overlapping classes whose variance falls along the axes, as a network's features have it."""
    centres = torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_rows) % num_classes
    noise = torch.randn(num_rows, dim, generator=generator)
    spectrum = (1 + torch.arange(dim)) ** -0.5
    rows = ((0.4 * centres[labels] + noise) * spectrum).relu()
    return Features(rows, labels, torch.arange(num_rows))


def of_runs(runs: list[str], data_root: Path | None) -> tuple[Features, Features]:
    """Whole training set and test split as the backbones see them, side by side."""
    parts: list[tuple[Features, Features]] = []
    for name in runs:
        run = open_saved_run(name, data_root=data_root, num_workers=0, verb="evaluation")
        network = load_network(run).backbone.to(memory_format=torch.channels_last)
        tables = (run.data.decoded(run.data.whole), run.test)
        train, test = (embed_dataset(network, t, run.data, precision="auto") for t in tables)
        parts.append((train, test))
    trains, tests = zip(*parts, strict=True)
    return _side_by_side(trains), _side_by_side(tests)


def _side_by_side(parts: tuple[Features, ...]) -> Features:
    return replace(parts[0], features=torch.cat([part.features for part in parts], dim=1))


def keep(path: Path, train: Features, test: Features) -> None:
    """Writes both to a safetensors file."""
    parts = {"train": train, "test": test}
    tensors = {f"{name}_features": part.features.contiguous() for name, part in parts.items()}
    save_file(tensors | {f"{name}_labels": part.labels for name, part in parts.items()}, path)


def kept(path: Path) -> tuple[Features, Features]:
    """What `keep` wrote."""
    tensors = load_file(path)
    train, test = (
        Features(tensors[f"{name}_features"], labels, torch.arange(len(labels)))
        for name in ("train", "test")
        for labels in (tensors[f"{name}_labels"],)
    )
    return train, test


def head(rows: Features, size: int) -> Features:
    """The first rows."""
    return Features(rows.features[:size], rows.labels[:size], rows.index[:size])


def bench_knn(
    bank: Features, queries: Features, *, num_classes: int, k: int, rounds: int
) -> dict[str, float]:
    """Seconds of both, the best of the rounds taken in turn, and the share of equal answers."""
    options = KNNOptions(k, TEMPERATURE)

    def ours() -> Tensor:
        return knn_predict(bank, queries, num_classes=num_classes, options=options)

    def lightly() -> Tensor:
        rows = F.normalize(bank.features, dim=1).T.contiguous()
        found = [
            lightly_knn(batch, rows, bank.labels, num_classes, knn_k=k, knn_t=TEMPERATURE)[:, 0]
            for batch in F.normalize(queries.features, dim=1).split(LIGHTLY_BATCH)
        ]
        return torch.cat(found)

    knn_predict(bank, head(queries, 64), num_classes=num_classes, options=options)  # loads FAISS
    results: dict[str, float] = {}
    answers = {}
    for _ in range(rounds):
        for name, predict in (("ours", ours), ("lightly", lightly)):
            wall, processor = time.perf_counter(), time.process_time()
            answers[name] = predict()
            found = {
                f"{name}_seconds": time.perf_counter() - wall,
                f"{name}_processor_seconds": time.process_time() - processor,
            }
            results |= {key: min(value, results.get(key, value)) for key, value in found.items()}
    equal = (answers["ours"] == answers["lightly"]).double().mean()
    return {**results, "equal_answers": float(equal)}


def bench_probe(
    train: Features, test: Features, *, num_classes: int, epochs: int
) -> dict[str, dict[str, float]]:
    """Seconds, balanced test accuracy and intervals of each probe, one after the other."""
    whole = timed(lambda: linear_probe(train, test, num_classes=num_classes), test)
    options = LinearProbeOptions(l2_grid=(whole[1].l2,))
    one = timed(lambda: linear_probe(train, test, num_classes=num_classes, options=options), test)
    adam = replace(BCL, epochs=epochs)
    published = timed(lambda: published_probe(train, test, adam, num_classes=num_classes), test)
    found = {
        "one L-BFGS fit": one,
        "whole L-BFGS probe": whole,
        f"Adam, {epochs} epochs": published,
    }
    right = {name: (probe.predictions == test.labels) for name, (_, probe) in found.items()}
    num_test = test.labels.bincount(minlength=num_classes).numpy()
    last = list(found)[-1]
    for name, (numbers, _) in found.items():
        hits = test.labels[right[name]].bincount(minlength=num_classes).numpy()
        own = bootstrap(hits, num_test).balanced
        # Class by class, as `paired_difference` wants them.
        order = test.labels.argsort(stable=True)
        pair = (right[last][order].numpy(), right[name][order].numpy())
        difference = paired_difference(*pair, num_test).balanced
        numbers |= {"low": own.low, "high": own.high}
        numbers |= {"difference_low": difference.low, "difference_high": difference.high}
    return {name: numbers for name, (numbers, _) in found.items()}


def timed(probe: Callable[[], ProbeResult], test: Features) -> tuple[dict[str, float], ProbeResult]:
    """Its numbers, and the result."""
    started = time.process_time()
    result = probe()
    processor = time.process_time() - started
    right = (result.predictions == test.labels).double().mean()
    numbers = {
        "seconds": result.seconds,
        "processor_seconds": processor,
        "test_accuracy": float(right),
        "l2": result.l2,
        "iterations": float(result.iterations),
    }
    return numbers, result


def main() -> None:
    """Prints two tables and, where asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="+", default=[], help="folders of finished runs")
    parser.add_argument("--data-root", type=Path, help="where the data of the runs is now")
    parser.add_argument("--features", type=Path, help="file of features: read, or kept of --runs")
    parser.add_argument("--bank", type=int, default=50_000, help="training rows")
    parser.add_argument("--queries", type=int, default=10_000, help="test rows")
    parser.add_argument("--dim", type=int, default=512, help="of drawn features")
    parser.add_argument("--classes", type=int, default=100, help="of drawn features")
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="of kNN")
    parser.add_argument("--epochs", type=int, default=500, help="of the Adam probe")
    parser.add_argument("--only", choices=("knn", "probe"), help="one of the two")
    parser.add_argument("--quick", action="store_true", help="small and few")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    a = parser.parse_args()
    if a.quick:
        a.bank, a.queries, a.dim, a.rounds, a.epochs = 4_000, 1_000, 64, 1, 20
    if a.runs:
        train, test = of_runs(a.runs, a.data_root)
        if a.features:
            keep(a.features, train, test)
    elif a.features:
        train, test = kept(a.features)
    else:
        train, test = (
            drawn(n, a.dim, a.classes, seed) for n, seed in ((a.bank, 1), (a.queries, 2))
        )
    train, test = head(train, a.bank), head(test, a.queries)
    num_classes = int(train.labels.max()) + 1
    results: dict[str, object] = {}
    print(f"{len(train):,} x {train.features.shape[1]} training rows, {len(test):,} test rows, "
          f"{num_classes} classes, {torch.get_num_threads()} threads")  # fmt: skip
    if a.only != "probe":
        knn = bench_knn(train, test, num_classes=num_classes, k=a.k, rounds=a.rounds)
        results["knn"] = knn
        print(f"\n{'kNN, k = ' + str(a.k):20s} {'seconds':>9s} {'as fast':>9s} {'processor':>10s}")
        for name in ("lightly", "ours"):
            seconds = knn[f"{name}_seconds"]
            print(f"{name:20s} {seconds:9.2f} {knn['lightly_seconds'] / seconds:9.2f} "
                  f"{knn[f'{name}_processor_seconds']:10.2f}")  # fmt: skip
        print(f"equal answers: {100 * knn['equal_answers']:.2f}%")
    if a.only != "knn":
        probes = bench_probe(train, test, num_classes=num_classes, epochs=a.epochs)
        results["probe"] = probes
        slowest = list(probes.values())[-1]["seconds"]
        print(f"\n{'probe':20s} {'seconds':>9s} {'as fast':>9s} {'processor':>10s} "
              f"{'accuracy':>9s} {'interval':>13s} {'minus Adam':>14s} {'steps':>7s}")  # fmt: skip
        for name, found in probes.items():
            print(f"{name:20s} {found['seconds']:9.2f} {slowest / found['seconds']:9.2f} "
                  f"{found['processor_seconds']:10.2f} {100 * found['test_accuracy']:8.2f}% "
                  f"{100 * found['low']:6.1f}-{100 * found['high']:5.1f}% "
                  f"{100 * found['difference_low']:+6.1f} {100 * found['difference_high']:+6.1f} "
                  f"{found['iterations']:7.0f}")  # fmt: skip
    if a.json:
        a.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
