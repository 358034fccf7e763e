"""The typed configuration of each verb: what flags, YAML keys and `config.yaml` are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ssl_lt.augment.views import ViewOptions
from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError
from ssl_lt.data.options import DataOptions, check_no_secret
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.plan import FitOptions
from ssl_lt.engine.schedule import ScheduleOptions
from ssl_lt.evaluate.protocol_options import ProtocolOptions
from ssl_lt.finetune.balance.class_rates import SamplerOptions
from ssl_lt.finetune.balance.meta_sampler import MetaSamplerOptions
from ssl_lt.finetune.balance.reweighting import ReweightOptions
from ssl_lt.finetune.experts.options import ExpertOptions
from ssl_lt.finetune.learning_rates import RateOptions
from ssl_lt.models.heads import ProjectorOptions
from ssl_lt.models.options import ModelOptions
from ssl_lt.runs.config.schema import Flat


@dataclass(frozen=True)
class RunOptions:
    """Where a run is kept and what makes it repeatable."""

    run_dir: Path | None = None
    """Folder of the run; none: a new one under runs/, named by verb, method, data and time."""
    batch_size: int = 128
    """Images a batch, over all processes together."""
    seed: int = 0
    """Of initial weights, order and augmentation: all randomness follows from it."""
    mirror: str | None = None
    """URL (s3://BUCKET/FOLDER, gs://..., or a path) below which the run folder is copied, under its
    name, after each checkpoint and at the end; --resume URL/NAME goes on from the copy."""

    def __post_init__(self) -> None:
        check_no_secret("--mirror", self.mirror or "")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed: {self.seed} is outside 0 ... 2^32 - 1")


@dataclass(frozen=True)
class PretrainConfig:
    """Learn a representation from two views of each image; labels are never read.

    --plugins bcl is Boosted Contrastive Learning (ICML 2022); Balanced Contrastive Learning
    (CVPR 2022) is supervised: finetune.py --loss bcl. --method bcl and --method gh are simclr with
    that plug-in.
    """

    method: str = "simclr"
    """How two views are embedded and compared."""
    plugins: tuple[str, ...] = ()
    """What is added to the method; any of them goes with any method."""
    knn_every: int = 5
    """Epochs between two looks at the features: do they spread, and where there are labels, the kNN
    accuracy on validation images, or else on the test split; 0: never, so that a collapse goes
    unnoticed."""
    run: Flat[RunOptions] = field(default_factory=RunOptions)
    data: Flat[DataOptions] = field(default_factory=DataOptions)
    model: Flat[ModelOptions] = field(default_factory=ModelOptions)
    optim: Flat[OptimOptions] = field(default_factory=lambda: OptimOptions(lr=0.3))
    schedule: Flat[ScheduleOptions] = field(
        default_factory=lambda: ScheduleOptions(warmup_epochs=3)
    )
    fit: Flat[FitOptions] = field(default_factory=lambda: FitOptions(epochs=40))
    projector: ProjectorOptions = field(default_factory=ProjectorOptions)
    view: ViewOptions = field(default_factory=ViewOptions)

    def __post_init__(self) -> None:
        check_at_least(self, {"knn_every": 0})


Stage = Literal["contrast", "classifier", "all"]


@dataclass(frozen=True)
class SeriesOptions:
    """Several runs in one command, in one folder; --resume goes on where it was left."""

    seeds: tuple[int, ...] = ()
    """Train once with each and report mean and standard deviation; none: --seed alone."""
    compare_scratch: bool = False
    """Also train from scratch with the same budget, and report which classes gained and lost."""
    stages: tuple[Stage, ...] = ()
    """Train one after the other: contrast (no classifier yet), classifier (on the frozen backbone;
    logit adjustment, where the loss is more than a classification), all (what the loss says)."""
    stage_epochs: tuple[int, ...] = ()
    """Epochs of each stage; none: --epochs each."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"--seeds: {' '.join(map(str, self.seeds))} names one twice")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise ConfigError("--seeds: one is outside 0 ... 2^32 - 1")
        if self.stage_epochs and len(self.stage_epochs) != len(self.stages):
            raise ConfigError(
                f"--stage-epochs: {len(self.stage_epochs)} numbers for {len(self.stages)} stages"
            )
        if any(epochs < 1 for epochs in self.stage_epochs):
            raise ConfigError("--stage-epochs: each must be at least 1")

    @property
    def asked(self) -> bool:
        """More than one run."""
        return bool(self.seeds or self.compare_scratch or self.stages)


@dataclass(frozen=True)
class FinetuneConfig:
    """Train a classifier, from a pretrained run or from scratch.

    --loss bcl is Balanced Contrastive Learning (CVPR 2022); Boosted Contrastive Learning
    (ICML 2022) pretrains: pretrain.py --plugins bcl.
    """

    loss: str = "la"
    """The classification loss, or one with a contrast beside it: scl, bcl, rcl, bcl_rcl."""
    init_from: str = "auto"
    """auto: the newest pretraining run under runs/; scratch; or a run, exported folder or file."""
    init_classifier: bool = False
    """Also take over the classifier of the fine-tuned run that --init-from names."""
    freeze_backbone: bool = False
    """Train the classifier alone; the backbone keeps weights and running statistics."""
    classifier: Literal["linear", "cosine"] = "linear"
    """What is put on top of the backbone."""
    augment: Literal["weak", "autoaugment"] = "weak"
    """Of the images that are classified: crop and flip, or AutoAugment and, on small pictures,
    Cutout besides. Compare only what is augmented alike."""
    hold_out: float = 0.0
    """Share of each class's training images that only --compression sees, to find the classes that
    are behind; 0: it goes by the validation images (--val-data), or else by the augmented training
    images."""
    eval_every: int = 5
    """Epochs between two looks at the accuracy on validation images, or else on the test split; 0:
    never."""
    run: Flat[RunOptions] = field(default_factory=RunOptions)
    data: Flat[DataOptions] = field(default_factory=DataOptions)
    model: Flat[ModelOptions] = field(default_factory=ModelOptions)
    optim: Flat[OptimOptions] = field(default_factory=lambda: OptimOptions(lr=0.1))
    schedule: Flat[ScheduleOptions] = field(default_factory=ScheduleOptions)
    fit: Flat[FitOptions] = field(default_factory=lambda: FitOptions(epochs=20))
    rates: Flat[RateOptions] = field(default_factory=RateOptions)
    series: Flat[SeriesOptions] = field(default_factory=SeriesOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.hold_out < 1:
            raise ConfigError(f"--hold-out: {self.hold_out} is outside [0, 1)")
        check_at_least(self, {"eval_every": 0})

    weights: Flat[ReweightOptions] = field(default_factory=ReweightOptions)
    sampling: Flat[SamplerOptions] = field(default_factory=SamplerOptions)
    meta: MetaSamplerOptions = field(default_factory=MetaSamplerOptions)
    ensemble: Flat[ExpertOptions] = field(default_factory=ExpertOptions)


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a run on the balanced test split: kNN, linear probe, its classifier; make a report."""

    run: str = "auto"
    """Folder of the run; auto: the newest one under runs/."""
    protocols: Flat[ProtocolOptions] = field(default_factory=ProtocolOptions)
    random_init: bool = False
    """Also judge the same backbone with its initial, untrained weights."""
    map_images: int = 2000
    """Test images on the page's map of features (t-SNE, ten seconds of one core); 0: no map."""
    batch_size: int = 512
    """Images a forward pass."""
    data_root: str | None = None
    """Where the data is now, if it has moved since the run."""
    num_workers: int = 4
    """Processes that decode a folder too large for memory."""

    def __post_init__(self) -> None:
        check_at_least(self, {"map_images": 0, "batch_size": 1, "num_workers": 0})
