"""Evaluations of frozen features: one for each protocol that `ProtocolOptions` names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.groups import GROUP_NAMES, leading_rule
from ssl_lt.core.kmeans import cluster_means
from ssl_lt.data.dataset import Data
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions, vote_with_shares
from ssl_lt.evaluate.neighbours.knn_sweep import choose_k, hold_out_of_bank
from ssl_lt.evaluate.neighbours.search import find_neighbours
from ssl_lt.evaluate.probes.draws import balanced_draw, check_shots
from ssl_lt.evaluate.probes.linear_probe import (
    FEW_ITERATIONS,
    MOST_CLASSES,
    ProbeResult,
    linear_probe,
)
from ssl_lt.evaluate.probes.published_probe import protocol, published_probe
from ssl_lt.evaluate.protocol_options import Probe, ProtocolOptions
from ssl_lt.evaluate.scores.correct_mask import pack_groups
from ssl_lt.evaluate.scores.evaluation import (
    Evaluation,
    mean_evaluation,
    mean_stds,
)
from ssl_lt.evaluate.scores.group_intervals import mask_intervals
from ssl_lt.evaluate.scores.predictions import evaluate_predictions
from ssl_lt.evaluate.scores.softmax import answers_by_parts

_LABELS = {
    "all": "",
    "long-tail": ", long-tailed",
    "long-tail-adjusted": ", long-tailed, logit-adjusted",
}


# Takes the name of an evaluation that cannot be made, and why.
Skip = Callable[[str, str], None]


@dataclass(frozen=True)
class FewShots:
    """A number of labels of each class, and what the report calls it."""

    name: str
    shots: int


def few_shots(options: ProtocolOptions, data: Data) -> tuple[FewShots, ...]:
    """The label budgets of --shots and --fraction, checked before anything is computed.

    Raises:
        ConfigError: a fraction is less than two images of each class.
        DataError: a class of the whole training set has fewer images.
    """
    found = [FewShots(f"{shots}-shot", shots) for shots in options.shots]
    for fraction in options.fraction:
        # Not `int` alone: 0.07 * 100 is 7.000000000000001 and 0.29 * 100 is 28.999999999999996.
        shots = int(round(fraction * len(data.readable), 6)) // data.num_classes
        if shots < 2:
            raise ConfigError(
                f"--fraction: {fraction:g} of {len(data.readable):,} images is {shots} of each "
                "class, but at least 2 are needed"
            )
        found.append(FewShots(f"{100 * fraction:g} %", shots))
    for budget in found:
        check_shots(data.readable.labels, shots=budget.shots, class_names=data.source.class_names)
    return tuple(found)


def needs_whole(options: ProtocolOptions) -> bool:
    """Whether some probe sees labels beyond the long-tailed training set."""
    asked = "all" in options.probe_on or bool(options.shots or options.fraction)
    return asked and bool(options.probe)


@dataclass(frozen=True, eq=False)
class EvalFeatures:
    """Features of the images that a backbone is measured on.

    Attributes:
        bank: the long-tailed training set.
        queries: the test split.
        validation: images that choose k and L2; None: held-out training images choose.
    """

    bank: Features
    queries: Features
    validation: Features | None

    @property
    def chosen_on(self) -> str:
        """Which images choose k and L2, for a note."""
        if self.validation is not None:
            return "validation images"
        groups = "" if self.bank.group_ids is None else "groups of "
        return f"held-out {groups}training images"


def knn_evaluations(
    seen: EvalFeatures, data: Data, options: ProtocolOptions, *, skip: Skip
) -> list[Evaluation]:
    """One evaluation a kind of vote, from one search."""
    bank, queries = seen.bank, seen.queries
    ks = options.knn_k or (min(20, len(bank)),)
    k, classes = max(ks), data.num_classes
    if len(set(ks)) > 1 and seen.validation is None and not _has_two(bank):
        skip("kNN", f"{_no_two(bank)}among the values of --knn-k: give one, or validation images")
        return []
    neighbours = find_neighbours(bank, queries, k=k, num_classes=classes)
    judges = None
    if len(set(ks)) > 1 and seen.validation is not None:
        asked = find_neighbours(bank, seen.validation, k=k, num_classes=classes)
        judges = asked, seen.validation.labels
    elif len(set(ks)) > 1:
        judges = hold_out_of_bank(bank, k=k, num_classes=classes)
    evaluations = []
    for kind in options.knn_vote:
        chosen = KNNOptions(ks[0], options.knn_temperature, kind)
        points = ""
        if judges is not None:
            chosen, scores = choose_k(*judges, ks, options=chosen)
            points = f" of {', '.join(map(str, scores))} on {seen.chosen_on}"
        note = f"k = {chosen.k}{points}"
        if kind != "plain":
            note += f", temperature {chosen.temperature:g}"
        note += ", bank: long-tailed training set"
        name = "kNN" if kind == "weighted" else f"kNN, {kind} vote"
        answers = vote_with_shares(neighbours, options=chosen)
        evaluations.append(_judged(name, answers, queries, data, note=note))
    return evaluations


def class_mean_evaluation(seen: EvalFeatures, data: Data) -> Evaluation:
    """The class whose mean training feature is nearest, by cosine."""
    bank, queries = seen.bank, seen.queries
    counts = bank.labels.bincount(minlength=data.num_classes)
    means = F.normalize(cluster_means(bank.features, bank.labels, data.num_classes), dim=1)

    def cosines(rows: Tensor) -> Tensor:
        return (F.normalize(rows, dim=1) @ means.T).masked_fill(counts == 0, -torch.inf)

    nearest, _ = answers_by_parts(cosines, queries.features, num_classes=data.num_classes)
    predictions, labels = nearest.numpy(), queries.labels.numpy()
    note = "cosine, means of the long-tailed training set"
    return evaluate_predictions("nearest class mean", predictions, labels, data, note=note)


def probe_evaluations(
    seen: EvalFeatures, whole: Features, data: Data, options: ProtocolOptions, *, skip: Skip
) -> list[Evaluation]:
    """One evaluation a probe and a set of labels that it can be fitted to.

    Args:
        seen: the features.
        whole: those of the whole training set, or the same as `seen.bank` where `needs_whole` says
            no.
        data: with the groups.
        options: kinds of probe and their labels.
        skip: takes what cannot be fitted.
    """
    evaluations, bank = [], seen.bank
    for kind in options.probe:
        for which in options.probe_on:
            if which == "all" and whole is bank and "long-tail" in options.probe_on:
                continue  # the same images: the data set is used as it is
            if which == "long-tail-adjusted" and kind != "lbfgs":
                continue
            train, tau = (whole if which == "all" else bank), float(which == "long-tail-adjusted")
            name, missing = _name(kind) + _LABELS[which], _nothing_chooses(kind, train, seen)
            if missing:
                skip(name, missing)
                continue
            result = _fit(kind, train, seen, data, tau=tau)
            note = _note(kind, train, seen, result)
            answers = result.predictions, result.confidence
            evaluations.append(_judged(name, answers, seen.queries, data, note=note))
        for budget in few_shots(options, data):
            evaluations.append(_drawn(kind, budget, whole, seen, data, draws=options.draws))
    return evaluations


def _drawn(
    kind: Probe, budget: FewShots, whole: Features, seen: EvalFeatures, data: Data, *, draws: int
) -> Evaluation:
    """Mean over draws; the standard deviations stand in the note."""
    name, names = f"{_name(kind)}, {budget.name}", data.source.class_names
    judged = []
    for draw in range(draws):
        train = balanced_draw(whole, shots=budget.shots, draw=draw, class_names=names)
        result = _fit(kind, train, seen, data, tau=0.0)
        answers = result.predictions, result.confidence
        judged.append(_judged(name, answers, seen.queries, data, note=""))
    labelled = f"{budget.shots} labelled images of each class"
    if draws == 1:
        return replace(judged[0], note=f"{labelled}, one draw")
    note = f"{labelled}, mean of {draws} draws: {_spread_note(judged)}"
    mean, ids = mean_evaluation(judged, data.groups, note=note), seen.queries.group_ids
    together = "" if ids is None else pack_groups(ids.numpy(), seen.queries.labels.numpy())
    num_test = mean.accuracy.num_test_per_class
    assert mean.answers is not None
    return replace(
        mean,
        intervals=mask_intervals(mean.answers, num_test, together, data.groups),
        draws=tuple(evaluation.accuracy.balanced for evaluation in judged),
    )


def _spread_note(draws: Sequence[Evaluation]) -> str:
    """Mean and standard deviation of all classes and of each group, in percent."""
    by_name = mean_stds(draws)
    words = [f"{key} {by_name[key]}" for key in ("all", *GROUP_NAMES) if by_name[key]]
    return f"{', '.join(words)} (groups {leading_rule(draws[0].accuracy.groups)})"


def _nothing_chooses(kind: Probe, train: Features, seen: EvalFeatures) -> str:
    """Why the probe cannot be fitted; empty where it can."""
    if kind == "lbfgs":
        needs = "" if seen.validation is not None else "L2"
    else:
        needs = "the epoch" if protocol(kind, train).held_out else ""
    return _no_two(train) + needs if needs and not _has_two(train) else ""


def _no_two(train: Features) -> str:
    what = "training images" if train.group_ids is None else "groups of training images"
    return f"no class has two {what}, so none can be held out to choose "


def _has_two(train: Features) -> bool:
    """Whether some class has two images, or groups, of which one can be held out."""
    return bool(train.held_out(share=0.0, seed=0).any())


def _fit(
    kind: Probe, train: Features, seen: EvalFeatures, data: Data, *, tau: float
) -> ProbeResult:
    classes, test = data.num_classes, seen.queries
    if kind == "lbfgs":
        return linear_probe(train, test, num_classes=classes, validation=seen.validation, tau=tau)
    return published_probe(train, test, protocol(kind, train), num_classes=classes)


def _name(kind: Probe) -> str:
    return "linear probe" if kind == "lbfgs" else f"linear probe ({kind})"


def _note(kind: Probe, train: Features, seen: EvalFeatures, result: ProbeResult) -> str:
    images = f"{len(train):,} labelled images"
    if kind == "lbfgs":
        note = f"{images}, L2 strength {result.l2:g} chosen on {seen.chosen_on}"
        if not result.many:
            return note
        return f"{note} of {MOST_CLASSES:,} classes, at most {FEW_ITERATIONS} iterations"
    how = protocol(kind, train)
    if how.held_out:
        return f"{images}, SGD, the best of {how.epochs} epochs on a tenth of them held out"
    return f"{images}, Adam, the last of {how.epochs} epochs"


def _judged(
    name: str, answers: tuple[Tensor, Tensor], queries: Features, data: Data, *, note: str
) -> Evaluation:
    """Of predicted classes, and how sure the classifier is of each."""
    predictions, confidence = (rows.numpy() for rows in answers)
    labels = queries.labels.numpy()
    return evaluate_predictions(name, predictions, labels, data, note=note, confidence=confidence)
