"""The typed configuration of `finetune.py`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, TypeVar

from ssl_lt.augment.mixing import MixOptions
from ssl_lt.augment.views import ViewOptions
from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Effect, Flat, option, section
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.plan import FitOptions
from ssl_lt.engine.schedule import ScheduleOptions
from ssl_lt.finetune.balance.class_rates import SamplerOptions
from ssl_lt.finetune.balance.meta_sampler import MetaSamplerOptions
from ssl_lt.finetune.balance.reweighting import ReweightOptions
from ssl_lt.finetune.balance.tail_sharpness import TailSharpnessOptions
from ssl_lt.finetune.experts.options import ExpertOptions
from ssl_lt.finetune.learning_rates import RateOptions
from ssl_lt.finetune.registry import LOSSES, LossEntry
from ssl_lt.losses.semantic_labels import SemanticLabelOptions
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.tuning.registry import TUNINGS, chosen, read_kind
from ssl_lt.runs.config.budget import budget_seconds
from ssl_lt.runs.config.run import RunOptions
from ssl_lt.runs.config.schema import nearest
from ssl_lt.runs.config.series import SeriesOptions

HeadInit = Literal["auto", "probe", "class-means", "random"]
# Options of the chosen loss, such as `RebalancedOptions`.
LossOptions = TypeVar("LossOptions")


@dataclass(frozen=True)
class FinetuneConfig(Generic[LossOptions]):
    """Train a classifier, from a pretrained run or from scratch.

    --loss bcl is Balanced Contrastive Learning (CVPR 2022). Boosted Contrastive Learning
    (ICML 2022) needs no labels: pretrain.py --plugins bcl.
    """

    options: Flat[LossOptions] = field(metadata={"group": "loss"})
    loss: str = option("la", group="loss")
    """A classification loss: ce, la, balanced_softmax, pairwise, vs, focal, cb_softmax, cb_sigmoid,
    cb_focal, ldam or ldam_hinge; one with a contrast beside it: scl, bcl, rcl, bcl_rcl or sbcl; or
    one with a step of its own: elm, paco, gpaco, hybrid_sc, hybrid_psc or dro_lt. --loss NAME
    --help shows the flags of NAME."""
    init_from: str = option("auto", effect=Effect.START, group="start")
    """auto (the newest pretraining run under runs/), scratch, a run, an exported folder, a file of
    weights (FILE@BACKBONE, or with --backbone), or released weights: timm:NAME[.TAG],
    hf-hub:ORG/NAME, local-dir:PATH."""
    init_classifier: bool = option(default=False, effect=Effect.START, page="all", group="start")
    """Also take over the classifier of the fine-tuned run that --init-from names."""
    tune: str = option("all", group="start")
    """What of the backbone is trained: all; head (nothing: the classifier alone); norms, bias or
    last-K (the last K blocks or stages); or what is put into it: adaptformer, lora, ssf."""
    adapter_dim: int | None = option(None, page="all", group="start")
    """Width of the bottleneck of --tune adaptformer and rank of lora. Default: by the number of
    classes, so that it has about as many weights as the classifier."""
    classifier: Literal["linear", "cosine"] = option("linear", group="network")
    """The layer on top of the backbone."""
    cosine_scale: float = option(30.0, page="all", group="network")
    """Factor on the cosines of --classifier cosine; 25 and 30 are usual."""
    head_init: HeadInit = option("auto", page="all", group="start")
    """What the classifier starts at: probe (a linear probe on the training features, with the
    loss's logit adjustment), class-means (their means, for --classifier cosine) or random. auto:
    probe or class-means where there are weights to start from, random from scratch."""
    batch_norm: Literal["auto", "update", "keep"] = option("auto", page="all", group="training")
    """Statistics of batch norms while every weight trains: update them, or keep those of the
    weights. auto: keep those of released weights, otherwise update them. Every other --tune keeps
    them."""
    data: Flat[DataOptions] = section("data", DataOptions)
    model: Flat[ModelOptions] = section("network", ModelOptions)
    augment: Literal["weak", "autoaugment"] = option("weak", group="views")
    """Augmentation of the classified image: weak (crop and flip), or autoaugment (also Cutout on
    small images). Compare only runs that are augmented alike."""
    cutout: bool = option(default=True, page="all", group="views")
    """With --augment autoaugment on small images: also blacken a square of half their side."""
    view: ViewOptions = section("views", ViewOptions)
    mixing: Flat[MixOptions] = section("image mixing", MixOptions)
    semantic: Flat[SemanticLabelOptions] = section("image mixing", SemanticLabelOptions)
    budget: str | None = option(None, effect=Effect.START, group="training")
    """How long a training may take, such as 10min or 2h, in place of --epochs: a few steps are
    timed, and as many epochs are trained as fit in. Augmentation, averaging, and from scratch the
    network for small images, are then chosen for that time, unless flags say otherwise."""
    fit: Flat[FitOptions] = section("training", lambda: FitOptions(epochs=None))
    optim: Flat[OptimOptions] = section("training", lambda: OptimOptions(lr=None))
    rates: Flat[RateOptions] = section("training", RateOptions)
    schedule: Flat[ScheduleOptions] = section("training", ScheduleOptions)
    sharpness: Flat[TailSharpnessOptions] = section("training", TailSharpnessOptions)
    weights: Flat[ReweightOptions] = section("class balance", ReweightOptions)
    sampling: Flat[SamplerOptions] = section("class balance", SamplerOptions)
    meta: MetaSamplerOptions = section("class balance", MetaSamplerOptions)
    ensemble: Flat[ExpertOptions] = section("experts", ExpertOptions)
    series: Flat[SeriesOptions] = section("several runs", SeriesOptions)
    val_fraction: float = option(0.0, page="all", group="data")
    """Fraction of the training images of each class that is not trained on and serves as validation
    set, where there is no other (0 = none)."""
    eval_every: int = option(5, group="monitoring")
    """Measure accuracy every N epochs (0 = off), on the validation set, otherwise on the test
    set."""
    run: Flat[RunOptions] = section("run", RunOptions)

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_tune(self.tune)
        check_range(self, {"val_fraction": "[0, 1)", "cosine_scale": "(0, inf)"})
        check_at_least(self, {"eval_every": 0, "adapter_dim": 1})
        if self.budget is not None:
            budget_seconds(self.budget)
            if self.series.stage_epochs:
                raise ConfigError("--budget: --stage-epochs says how long; leave one of them out")

    @property
    def entry(self) -> LossEntry:
        """Of the loss."""
        return LOSSES[self.loss]

    @property
    def is_timed(self) -> bool:
        """The number of epochs is still to be found by `budget`."""
        return self.budget is not None and self.fit.epochs is None

    @property
    def trains_classifier(self) -> bool:
        """A stage of contrast alone leaves it as it was drawn."""
        return getattr(self.options, "classification_weight", None) != 0

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        found = self.optim.without_effect() | self.schedule.without_effect()
        found |= self.sharpness.without_effect(sam=self.optim.sam) | self.view.without_effect()
        found |= self.weights.without_effect() | self.sampling.without_effect()
        if getattr(self.options, "compression", 0) == 1:
            found["compression-start"] = "--compression"
        if self.entry.views == 1:
            contrast = "a loss with contrastive views, such as --loss rcl"
            names = [declared.name for declared in fields(ViewOptions)]
            names.remove("flip_probability")  # of the classified view as well
            found |= {f"view.{name.replace('_', '-')}": contrast for name in names}
        if self.classifier != "cosine":
            found["cosine-scale"] = "--classifier cosine"
        if self.augment == "weak":
            found["cutout"] = "--augment autoaugment"
        if self.sampling.sampler != "meta":
            found["meta."] = "--sampler meta"
        if self.tune != "all":
            found["batch-norm"] = "--tune all"
        if not chosen(self.tune).has_dim:
            found["adapter-dim"] = "--tune adaptformer or lora"
        if self.mixing.mix == "none":
            found["mix-"] = "--mix"
        if self.mixing.mix != "concutmix":
            found["rectify-"] = "--mix concutmix"
        return found


AnyFinetuneConfig = FinetuneConfig[Any]


def check_loss(loss: str) -> None:
    """Raises ConfigError for a loss that is not registered."""
    if loss not in LOSSES:
        known = nearest(loss, LOSSES) or f"; there are {', '.join(LOSSES)}"
        raise ConfigError(f"--loss: unknown name {loss!r}{known}")


def check_tune(tune: str) -> None:
    """Raises ConfigError for what is not registered, or a K that is no number."""
    kind, last = read_kind(tune)
    if kind not in TUNINGS:
        raise ConfigError(f"--tune: unknown name {tune!r}{nearest(tune, TUNINGS)}")
    if kind == "last-K" and last < 1:
        raise ConfigError(f"--tune: {tune!r}: K is a number from 1, as in last-2")


def kind_of(loss: str) -> Any:
    """`FinetuneConfig` with the type of a loss's options."""
    check_loss(loss)
    generic: Any = FinetuneConfig
    return generic[LOSSES[loss].options]


def default_config(loss: str) -> AnyFinetuneConfig:
    """Everything as it is where only `--loss` is given.

    Raises:
        ConfigError: an unknown loss.
    """
    check_loss(loss)
    return FinetuneConfig(LOSSES[loss].options(), loss)


def owners_of_other_losses(loss: str) -> dict[str, str]:
    """Options of the losses that were not chosen -> the losses that have them."""
    found: dict[str, list[str]] = {}
    for name, entry in LOSSES.items():
        for option_name in entry.options.__dataclass_fields__:
            found.setdefault(option_name.replace("_", "-"), []).append(name)
    return {
        option_name: f"--loss {' | '.join(names)} (--loss {names[0]} --help shows its flags)"
        for option_name, names in found.items()
        if loss not in names
    }
