"""The keywords of `ssl_lt.pretrain`, `finetune` and `evaluate`, for type checkers and completion.

Each is a flag, written with `_` for `-` and `.`; `--help-all` says what it does. Flags are declared
in the configurations; tests/test_keywords.py compares them with this file, and writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal, TypeAlias, TypedDict

# A path, or what `pretrain` and `finetune` have returned; also a word such as "auto".
Place: TypeAlias = str | PathLike[str]


class SharedKeywords(TypedDict, total=False):
    """Of all three."""

    # data
    data: str
    test_data: str | None
    val_data: str | None
    group_column: str | None
    group_pattern: str | None
    image_column: str | None
    label_column: str | None
    split_column: str | None
    crop_boxes: bool
    crop_margin: float
    value_range: Sequence[float]
    max_image_mpix: int | None
    data_root: Place | None
    download: bool
    shard_cache: Place | None
    shard_cache_mib: int
    imbalance: Literal["exponential", "step", "pareto", "none"]
    imbalance_factor: float | None
    split: Place | None
    test_split: Place | None
    split_seed: int
    image_size: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    interpolation: Literal["bilinear", "bicubic"]
    crop_pct: float
    num_workers: int
    worker_timeout: int
    cache_mib: int
    shard_window: int
    shard_streams: int | None
    bad_images: Literal["stop", "skip"]
    max_bad_images: int
    # files
    config: Place | Sequence[Place] | None
    # network
    backbone: str
    width: int | None
    model_kwargs: Sequence[str]
    # run
    run_dir: Place | None
    # training
    batch_size: int


class TrainKeywords(SharedKeywords, total=False):
    """Of `pretrain` and `finetune`."""

    # files
    resume: bool | Place | None
    # method
    temperature: float
    # monitoring
    log_every: int
    keep: Literal["last", "best"]
    early_stop: int
    trackers: Sequence[Literal["tensorboard", "wandb"]]
    # run
    checkpoint_every: int
    keep_checkpoints: int
    dist_timeout: int
    seed: int
    # start
    init_from: Place
    # training
    epochs: int | None
    accumulate_steps: int
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]
    drop_path: float
    grad_checkpointing: bool
    compile: bool
    optimizer: Literal["sgd", "adamw", "lars"]
    lr: float | None
    momentum: float
    betas: Sequence[float]
    weight_decay: float
    decay: Literal["all", "weights"]
    nesterov: bool
    clip_grad_norm: float | None
    sam: float
    ema: float
    schedule: Literal["cosine", "step", "constant"]
    warmup_epochs: float
    final_lr_fraction: float
    milestones: Sequence[float]
    step_factor: float
    # view
    view_min_scale: float
    view_interpolation: Literal["bilinear", "bicubic"]
    view_flip_probability: float | None
    view_jitter_probability: float
    view_brightness: float
    view_contrast: float
    view_saturation: float
    view_hue: float
    view_gray_probability: float
    view_blur_probability: float
    view_min_sigma: float
    view_max_sigma: float


class PretrainKeywords(TrainKeywords, total=False):
    """Of `pretrain`."""

    # bcl
    bcl_beta: float
    bcl_num_ops: int
    bcl_rule: Literal["released", "paper"]
    bcl_slots: int
    # focal
    focal_gamma: float
    # gh
    gh_clusters: int
    gh_weight: float
    gh_warmup_epochs: int | None
    gh_ramp_epochs: int
    gh_temperature: float
    gh_epsilon: float
    gh_sinkhorn_iterations: int
    gh_prior: Literal["per-sample", "streaming"]
    gh_prior_period: int
    gh_prior_momentum: float
    gh_prior_momentum_after: float
    gh_pseudo_count: float
    gh_empty_clusters: Literal["keep", "floor"]
    # method
    method: Literal["simclr", "focal", "sdclr", "bcl", "gh"]
    plugins: Sequence[Literal["bcl", "gh"]]
    temperature_max: float | None
    temperature_period: float
    # monitoring
    knn_every: int
    knn_data: str | None
    # network
    freeze_patch_embed: Literal["auto", "on", "off"]
    # projector
    projector_num_layers: int
    projector_hidden_dim: int | None
    projector_output_dim: int
    # sdclr
    sdclr_prune_ratio: float
    # start
    extend: Place | None


class FinetuneKeywords(TrainKeywords, total=False):
    """Of `finetune`, with any loss."""

    # class balance
    reweight: Literal["none", "inverse", "effective", "adrw"]
    reweight_beta: float
    reweight_power: float
    reweight_after: float
    sampler: Literal[
        "instance", "class_balanced", "square_root", "progressive", "effective", "meta"
    ]
    sampler_beta: float
    sampler_after: float
    # data
    val_fraction: float
    # experts
    experts: Literal["none", "ride", "ace"]
    num_experts: int
    expert_width: float
    diversity_weight: float
    diversity_temperature: float
    class_temperature: float
    class_temperature_start: float
    expert_groups: Literal["thirds", "counts"]
    expert_rates: Literal["counts", "equal"]
    interference_weight: float
    # image mixing
    mix: Literal["none", "mixup", "cutmix", "both", "concutmix"]
    mix_alpha: float | None
    mix_probability: float | None
    mix_partners: Literal["batch", "class_balanced"] | None
    rectify_weight: float
    rectify_classes: int
    rectify_after: float
    # loss
    loss: str
    tau: float
    member: Literal["la", "balanced"]
    gamma: float
    truncate_after: float
    beta: float
    max_margin: float
    scale: float
    classification_weight: float
    contrast_weight: float
    hidden_dim: int | None
    output_dim: int
    compression: float
    compression_start: float
    frequency_power: float
    class_average: bool
    use_prototypes: bool
    embedding_tau: float
    embedding_weight: float
    alpha: float
    supt: float
    queue_size: int
    key_momentum: float
    smoothing: float
    robust_temperature: float
    robust_weight: float
    robust_after: float
    radius: float
    class_weights: Literal["none", "frequency"]
    robust_class_weights: Literal["none", "frequency"]
    form: Literal["rank", "ccl"]
    class_weight: float
    cluster_after: int
    recluster_every: int
    smallest_sub_class: int
    # meta
    meta_lr: float
    meta_inner_lr: float
    # monitoring
    eval_every: int
    # network
    classifier: Literal["linear", "cosine"]
    cosine_scale: float
    # several runs
    seeds: Sequence[int]
    compare: Sequence[Place]
    stages: Sequence[Literal["contrast", "classifier", "all"]]
    stage_epochs: Sequence[int]
    # start
    init_classifier: bool
    tune: str
    adapter_dim: int | None
    head_init: Literal["auto", "probe", "class-means", "random"]
    # training
    batch_norm: Literal["auto", "update", "keep"]
    budget: str | None
    head_lr: float | None
    layer_decay: float
    sam_classes: Literal["all", "tail"]
    sam_tail_below: int
    # views
    augment: Literal["weak", "autoaugment"]
    cutout: bool


class EvaluateKeywords(SharedKeywords, total=False):
    """Of `evaluate`."""

    # classifier
    ensemble: Literal["none", "flip", "five-crops"]
    # kNN
    knn_k: Sequence[int]
    knn_vote: Sequence[Literal["weighted", "plain", "balanced"]]
    knn_temperature: float
    # linear probe
    probe: Sequence[Literal["lbfgs", "sdclr", "bcl"]]
    probe_on: Sequence[Literal["all", "long-tail", "long-tail-adjusted"]]
    shots: Sequence[int]
    fraction: Sequence[float]
    draws: int
    # options
    random_init: bool
    map_images: int
    verbose: bool
    # what is judged
    run: Place
    init_from: Place | None
