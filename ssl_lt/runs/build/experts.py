"""Experts from a fine-tuning configuration, and what their router makes of the test split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import Data
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.predictions import evaluate_predictions
from ssl_lt.evaluate.scores.softmax import softmax_answers
from ssl_lt.finetune.experts.router import RouterOptions, routed, train_router
from ssl_lt.finetune.experts.task import ExpertTask
from ssl_lt.runs.config.finetune import AnyFinetuneConfig


def check_experts(config: AnyFinetuneConfig) -> None:
    """Refuses what does not go with several experts.

    Raises:
        ConfigError: a loss that is more than a classification, the meta sampler, or an optimiser
            on which ACE's rates have no effect.
    """
    options = config.ensemble
    if options.experts == "none":
        return
    if not config.entry.is_classification:
        raise ConfigError(
            f"--experts {options.experts}: --loss {config.loss} is more than a classification, and "
            "only a classification can be given to each expert"
        )
    if config.fit.drop_path:
        raise ConfigError(f"--drop-path: --experts {options.experts} have no stochastic depth")
    if config.sampling.sampler == "meta":
        raise ConfigError(f"--experts {options.experts}: --sampler meta trains one classifier")
    scaled = options.experts == "ace" and options.expert_rates == "counts"
    if scaled and config.optim.optimizer != "sgd":
        raise ConfigError(
            f"--optimizer: {config.optim.optimizer} does not see how large a loss is, which is how "
            "--expert-rates counts sets the pace of an expert; sgd does"
        )


def build_experts(config: AnyFinetuneConfig, *, image_size: int) -> tuple[nn.Module, int]:
    """The network of `--experts` and the width of all experts' features; weights by the seed.

    Raises:
        ConfigError: a backbone that cannot be split into experts, or does not take such images.
    """
    from ssl_lt.models.backbones import create_experts, feature_dim

    torch.manual_seed(config.run.seed)
    backbone = create_experts(
        config.model.backbone,
        width=config.model.width,
        image_size=image_size,
        num_experts=config.ensemble.num_experts,
        expert_width=config.ensemble.expert_width,
        shared_gradient="first" if config.ensemble.experts == "ace" else "all",
    )
    return backbone, feature_dim(backbone)


def evaluate_routed(
    task: ExpertTask, test: ImageTable, data: Data, config: AnyFinetuneConfig
) -> Evaluation:
    """Predictions on the test split where each picture is shown to as many experts as it needs.

    The router is trained here, on the features of the training images: it takes seconds and
    follows from the weights and the seed, so it is not stored.
    """
    device = next(task.classifier.parameters()).device
    train, queries = (
        embed_dataset(task.backbone, table, data, precision=config.fit.mixed_precision)
        for table in (data.train, test)
    )
    router = train_router(
        task.classifier,
        train.features.to(device),
        train.labels.to(device),
        options=RouterOptions(),
        seed=config.run.seed,
    )

    @torch.no_grad()
    def answers(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        expert_logits = task.classifier.per_expert(features)
        logits, num_asked = routed(expert_logits, router(features, expert_logits))
        return *softmax_answers(logits), num_asked.cpu()

    batches = torch.split(queries.features, config.fit.batch_size)
    parts = [answers(x.to(device)) for x in batches]
    classes, confidence, num_asked = (torch.cat(part) for part in zip(*parts, strict=True))
    of = config.ensemble.num_experts
    return evaluate_predictions(
        "classifier, routed",
        classes.numpy(),
        queries.labels.numpy(),
        data,
        note=f"{num_asked.double().mean():.2f} of {of} experts on average",
        confidence=confidence.numpy(),
    )
