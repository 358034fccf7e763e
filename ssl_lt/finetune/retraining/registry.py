"""The classifiers that `ssl-lt retrain --classifier` knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.finetune.retraining.cached import CachedFeatures
from ssl_lt.finetune.retraining.class_means import (
    Normalisation,
    Similarity,
    nearest_mean_logits,
)
from ssl_lt.finetune.retraining.linear import SGDOptions, fit_linear
from ssl_lt.finetune.retraining.local_decomposition import Merge, fit_decomposed, parent_scores
from ssl_lt.finetune.retraining.post_hoc import (
    inverse_frequency_costs,
    plug_in_predictions,
    post_hoc_adjusted,
    threshold_moved,
)
from ssl_lt.finetune.retraining.scales import fit_scales, tau_normalised
from ssl_lt.finetune.retraining.smote import smote


@dataclass(frozen=True)
class RetrainingOptions:
    """What the classifiers can be told."""

    taus: tuple[float, ...] = tuple(number / 10 for number in range(21))
    """Strengths of posthoc, threshold and tau: the best on the held-out training images is taken;
    one value is taken as it is."""
    lws_epochs: int = 5
    """Of lws; the others have --epochs."""
    ncm_features: Normalisation = "cl2n"
    """For ncm: as they are, on the unit sphere, or centred and on the unit sphere."""
    ncm_similarity: Similarity = "l2"
    """For ncm: minus the squared distance, or the dot product."""
    cog_merge: Merge = "max"
    """For cog: a class is as likely as its likeliest sub-class, or as all of them together."""
    smote_neighbours: int = 5
    """For smote: a synthetic feature lies between a feature and one of its so many nearest."""

    def __post_init__(self) -> None:
        if not self.taus or not all(0 <= tau < float("inf") for tau in self.taus):
            raise ConfigError(f"--taus: {self.taus}, one or more values of at least 0 are needed")
        if self.lws_epochs < 1:
            raise ConfigError(f"--lws-epochs: {self.lws_epochs}, must be at least 1")
        if self.smote_neighbours < 1:
            raise ConfigError(f"--smote-neighbours: {self.smote_neighbours}, must be at least 1")


@dataclass(frozen=True)
class Answer:
    """What a classifier says of the test images.

    Attributes:
        predictions: (M,) int64 classes.
        note: how they were found, for the report.
        logits: (M, C) whose softmax are its probabilities; None where it has none.
    """

    predictions: Tensor
    note: str
    logits: Tensor | None = None


def _retrained(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    layer = fit_linear(
        cached.features,
        cached.labels,
        num_classes=cached.num_classes,
        options=cached.sgd,
        seed=cached.seed,
    )
    return _likeliest(layer(cached.queries), f"{_of(cached.sgd)}, class-balanced sampling")


def _scaled(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    sgd = replace(cached.sgd, epochs=options.lws_epochs)
    logits = cached.classifier(cached.features)
    layer = fit_scales(logits, cached.labels, options=sgd, seed=cached.seed)
    return _likeliest(
        layer(cached.classifier(cached.queries)),
        f"{cached.origin}; {_of(sgd)}, class-balanced sampling",
    )


def _tau_normalised(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    def logits(layer: nn.Module, x: Tensor, tau: float) -> Tensor:
        assert isinstance(layer, nn.Linear), "see _not_linear"
        return x @ tau_normalised(layer.weight, tau=tau).T

    return _with_strength(cached, options, logits)


def _nearest_mean(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    near = nearest_mean_logits(
        cached.queries,
        cached.features,
        cached.labels,
        num_classes=cached.num_classes,
        normalisation=options.ncm_features,
        similarity=options.ncm_similarity,
    )
    return Answer(_classes(near), f"{options.ncm_features}, {options.ncm_similarity}")


def _decomposed(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    layer, parents = fit_decomposed(
        cached.features,
        cached.labels,
        cached.counts_per_class,
        options=cached.sgd,
        seed=cached.seed,
    )
    p = parent_scores(
        layer(cached.queries), parents, num_classes=cached.num_classes, merge=options.cog_merge
    )
    return _likeliest(
        p.double().log(),  # the softmax makes them add up to 1, which those of "max" do not
        f"{_of(cached.sgd)}, {options.cog_merge} of {len(parents):,} sub-classes by k-means",
    )


def _synthetic(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    # As many rows as there are images: heads lose what the tail gains.
    rows = max(1, len(cached.labels) // int((cached.counts_per_class > 0).sum()))
    features, labels = smote(
        cached.features,
        cached.labels,
        rows_per_class=rows,
        k=options.smote_neighbours,
        seed=cached.seed,
    )
    layer = fit_linear(
        features, labels, num_classes=cached.num_classes, options=cached.sgd, seed=cached.seed
    )
    return _likeliest(
        layer(cached.queries),
        f"{_of(cached.sgd)} on {rows:,} features a class, {options.smote_neighbours} neighbours",
    )


def _post_hoc(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    def logits(classifier: nn.Module, x: Tensor, tau: float) -> Tensor:
        return post_hoc_adjusted(classifier(x), cached.log_prior, tau=tau)

    return _with_strength(cached, options, logits)


def _threshold(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    def logits(classifier: nn.Module, x: Tensor, tau: float) -> Tensor:
        return move(classifier, x, inverse_frequency_costs(cached.log_prior, tau=tau))

    def move(classifier: nn.Module, x: Tensor, costs: Tensor) -> Tensor:
        # In double precision: a probability of 0 could not be moved.
        return threshold_moved(classifier(x).double().softmax(dim=1), costs.double()).log()

    if cached.costs is None:
        return _with_strength(cached, options, logits)
    moved = move(cached.classifier, cached.queries, cached.costs)
    return _likeliest(moved, f"{cached.origin}; the given costs")


def _plug_in(cached: CachedFeatures, options: RetrainingOptions) -> Answer:
    p = cached.classifier(cached.queries).softmax(dim=1)
    return Answer(plug_in_predictions(p, cached.counts_per_class), cached.origin)


def _with_strength(
    cached: CachedFeatures,
    options: RetrainingOptions,
    logits: Callable[[nn.Module, Tensor, float], Tensor],
) -> Answer:
    """With the best strength on the held-out images: what it says of the test images."""
    tau, how = cached.choose(options.taus, lambda *given: _classes(logits(*given)))
    return _likeliest(logits(cached.classifier, cached.queries, tau), f"{cached.origin}; {how}")


def _likeliest(logits: Tensor, note: str) -> Answer:
    return Answer(_classes(logits), note, logits)


def _classes(scores: Tensor) -> Tensor:
    return scores.argmax(dim=1)


def _of(sgd: SGDOptions) -> str:
    return f"{sgd.epochs} epochs from lr {sgd.lr:g}"


def _never(cached: CachedFeatures) -> str | None:
    return None


def _not_linear(cached: CachedFeatures) -> str | None:
    if cached.trained is None or isinstance(cached.trained, nn.Linear):
        return None
    return "the run's classifier is no linear layer, so it has no weights to normalise"


def _not_binary(cached: CachedFeatures) -> str | None:
    if cached.num_classes == 2:
        return None
    return f"a threshold between two classes, but there are {cached.num_classes}; see posthoc"


@dataclass(frozen=True)
class RetrainingEntry:
    """A classifier made after training.

    Attributes:
        title: its name in tables and in `results.json`.
        run: (cached features, options) -> what it says of the test images.
        description: one line, with the source.
        refusal: why it cannot be made of these features; None where it can.
    """

    title: str
    run: Callable[[CachedFeatures, RetrainingOptions], Answer]
    description: str
    refusal: Callable[[CachedFeatures], str | None] = _never


RETRAINING: dict[str, RetrainingEntry] = {
    "crt": RetrainingEntry("cRT", _retrained, "classifier re-training (arXiv:1910.09217)"),
    "lws": RetrainingEntry("LWS", _scaled, "learnable weight scaling (arXiv:1910.09217)"),
    "tau": RetrainingEntry(
        "tau-norm", _tau_normalised, "tau-normalisation (arXiv:1910.09217)", _not_linear
    ),
    "ncm": RetrainingEntry("NCM", _nearest_mean, "nearest class mean (arXiv:1910.09217)"),
    "cog": RetrainingEntry("COG", _decomposed, "local decomposition (Wu et al. 2010)"),
    "smote": RetrainingEntry("SMOTE", _synthetic, "synthetic features (Chawla et al. 2002)"),
    "posthoc": RetrainingEntry("post-hoc LA", _post_hoc, "logit adjustment (arXiv:2007.07314)"),
    "threshold": RetrainingEntry(
        "threshold moving", _threshold, "by a cost matrix (Zhou and Liu 2006)"
    ),
    "plugin": RetrainingEntry(
        "plug-in", _plug_in, "empirical threshold (Menon et al. 2013)", _not_binary
    ),
}
