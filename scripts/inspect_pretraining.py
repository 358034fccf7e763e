"""What a pretraining run without labels found out about the classes it was never told of.

    python scripts/inspect_pretraining.py runs/pretrain-sdclr-bcl-gh-cifar100-...

For a finished or running run on labelled data: which layers SDCLR's mask thins, whether the scores
of memory boost and of the two branches single out rare classes, and how near the clusters' shares
come to those of the classes. Read from `scores/`, `split.json` and the newest checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError, UserError
from ssl_lt.data.long_tail import COUNTS, groups_by_count, groups_by_thirds
from ssl_lt.data.sources.registry import open_source
from ssl_lt.data.splits.split import Split, read_split
from ssl_lt.engine.checkpoints.checkpoint import newest_checkpoint
from ssl_lt.engine.checkpoints.run_folder import RunFolder, open_run_folder
from ssl_lt.evaluate.tail import Floats, Integers, auc_few_vs_many, frequency_correlation
from ssl_lt.runs.life.find import stored_values
from ssl_lt.runs.life.saved_run import run_config_of
from ssl_lt.runs.life.scores import file_of_epoch, read_scores

SAMPLE_SCORES = ("memorisation", "disagreement")


def rarity_lines(name: str, score: Floats, labels: Integers, counts: Integers) -> Iterator[str]:
    """How well a score a sample tells rare classes from frequent ones.

    Args:
        name: of the score.
        score: (N,), NaN for samples that have none yet.
        labels: (N,) classes.
        counts: (C,) training images of each class.
    """
    known = np.isfinite(score)
    score, labels = score[known], labels[known]
    if len(np.unique(score)) < 2:
        yield f"{name}: all {len(score):,} known scores are equal; nothing to compare yet"
        return
    correlation = frequency_correlation(score, labels, counts)
    shown = "n/a" if correlation is None else f"{correlation:+.3f}"
    yield f"{name}: Spearman's correlation with the class's images {shown}"
    for groups in (groups_by_count(counts), groups_by_thirds(counts)):
        auc = auc_few_vs_many(score, labels, groups)
        if auc is not None:
            yield f"  AUC of few over many {auc:.3f} ({groups.rule})"


def total_variation(first: Floats, second: Floats) -> float:
    """Half the sum of differences of two distributions, each sorted; the shorter ends in zeros."""
    length = max(len(first), len(second))
    a, b = (np.pad(np.sort(x)[::-1] / x.sum(), (0, length - len(x))) for x in (first, second))
    return float(0.5 * np.abs(a - b).sum())


def entropy(shares: Floats) -> float:
    """-sum p log p in nats; empty shares count nothing."""
    p = shares[shares > 0] / shares.sum()
    return float(-(p * np.log(p)).sum())


def prior_lines(prior: Floats, clusters: Integers | None, counts: Integers) -> Iterator[str]:
    """How the clusters' shares compare with those of the classes, and how many are in use.

    Args:
        prior: (K,) estimated shares.
        clusters: (N,) each sample's cluster, -1 unknown; None: the prior stands for it.
        counts: (C,) training images of each class.
    """
    shares = counts.astype(np.float64)
    yield (
        f"gh prior: {len(prior)} clusters' shares against {len(counts)} classes', both sorted: "
        f"total variation {total_variation(prior, shares):.3f} "
        f"(equal shares: {total_variation(np.ones(len(prior)), shares):.3f})"
    )
    yield (
        f"  largest {prior.max():.3f} (class {shares.max() / shares.sum():.3f}), "
        f"smallest {prior.min():.4f} (class {shares.min() / shares.sum():.4f})"
    )
    used = prior if clusters is None else np.bincount(clusters[clusters >= 0], minlength=len(prior))
    if not used.any():
        yield "gh allocation: no sample has a cluster yet"
        return
    found = entropy(used.astype(np.float64))
    yield (
        f"gh allocation: entropy {found:.3f} of at most {np.log(len(prior)):.3f} nats, "
        f"as of {np.exp(found):.1f} equal clusters; {int((used == 0).sum())} are empty"
    )


def mask_lines(mask: NDArray[np.bool_], sizes: Mapping[str, int]) -> Iterator[str]:
    """Share of the weights that SDCLR's second branch keeps, in all and in each layer.

    Args:
        mask: (P,) true where a weight stays.
        sizes: weights of each layer, in the mask's order.
    """
    yield f"sdclr mask: {mask.mean():.3f} of {len(mask):,} convolution weights stay"
    width = max(map(len, sizes))
    start = 0
    for name, size in sizes.items():
        yield f"  {name:<{width}}  {mask[start : start + size].mean():.3f} of {size:,}"
        start += size


def labels_of(run: RunFolder, split: Split) -> Integers:
    """(N,) class of each training sample; opens the data only where the split does not say.

    Raises:
        DataError: the run's data is not there.
    """
    if split.recipe.kind in COUNTS:  # such a split has its rows class by class
        return np.repeat(np.arange(len(split.counts_per_class)), split.counts_per_class)
    options = run_config_of(run, data_root=None, num_workers=0).data
    source = open_source(options.data, options.source_options())
    labels: Integers = source.train().labels.numpy()[split.indices]
    return labels


def score_lines(run: RunFolder) -> Iterator[str]:
    """All that `scores/` and `split.json` say.

    Raises:
        DataError: one of them is missing, or the data has no labels.
    """
    epoch, file = file_of_epoch(run, None)
    split = read_split(run.split)
    scores = read_scores(file, num_samples=len(split.indices))
    if not split.counts_per_class:
        raise DataError(f"{run.split}: {split.source} has no labels to compare scores with")
    counts, labels = np.array(split.counts_per_class), labels_of(run, split)
    yield f"scores after epoch {epoch}"
    for name in SAMPLE_SCORES:
        if name in scores:
            yield from rarity_lines(name, scores[name].astype(np.float64), labels, counts)
        else:
            yield f"{name}: not kept by this run"
    if "gh_prior" in scores:
        prior = scores["gh_prior"].astype(np.float64)
        yield from prior_lines(prior, scores.get("gh_cluster"), counts)
    else:
        yield "gh prior: not kept by this run"


def checkpoint_lines(run: RunFolder) -> Iterator[str]:
    """What the newest checkpoint says of SDCLR's mask.

    Raises:
        CheckpointError: every checkpoint is damaged.
        DataError: there is none.
    """
    checkpoint = newest_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise DataError(f"{run.checkpoints}: no checkpoint yet")
    mask = checkpoint.tensors.get("memory", {}).get("pruning.mask")
    if mask is None:
        yield "sdclr mask: not kept by this run"
        return
    from ssl_lt.models.backbones import create_backbone
    from ssl_lt.models.pruned_twin import prunable_weights

    values = stored_values(run)
    backbone = create_backbone(
        values["backbone"], width=values["width"], image_size=values["image-size"]
    )
    sizes = {name: weight.numel() for name, weight in prunable_weights(backbone).items()}
    yield from mask_lines(mask.numpy(), sizes)


def main() -> int:
    """Prints what there is, a line for what is missing; the exit code is that of the last error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    arguments = parser.parse_args()
    code = 0
    try:
        run = open_run_folder(arguments.run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"run: {run.path}")
    for part in (score_lines, checkpoint_lines):
        try:
            for line in part(run):
                print(line)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
