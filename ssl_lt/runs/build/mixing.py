"""What `--mix` asks of the rest of a fine-tuning run."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import world_size
from ssl_lt.data.loading.paired_plan import PairedPlan
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.finetune.tasks.contrast_task import Contrast
from ssl_lt.losses.semantic_labels import SemanticLabels
from ssl_lt.runs.config.finetune import AnyFinetuneConfig


def check_mixing(config: AnyFinetuneConfig) -> None:
    """Refuses what does not go with mixed images.

    Raises:
        ConfigError: a loss that compares the classified image by its one class; rectified labels
            without prototypes, or with class weights.
    """
    mixing, loss = config.mixing, f"--loss {config.loss}"
    if mixing.mix == "none":
        return
    if config.entry.mixing == "none":
        raise ConfigError(
            f"--mix {mixing.mix}: {loss} also compares the features of the classified image with "
            "others of its class, and a mixed image has two"
        )
    if mixing.mix == "concutmix" and config.entry.contrast is None:
        raise ConfigError(f"--mix concutmix: {loss} has no prototypes that labels are rectified by")
    if mixing.mix == "concutmix" and config.weights.reweight != "none":
        raise ConfigError("--reweight: --mix concutmix has labels of many classes in one image")


def with_partners(plan: BatchSchedule, labels: Tensor, config: AnyFinetuneConfig) -> BatchSchedule:
    """The plan, with partners behind the images of each step where they are read.

    Raises:
        ConfigError: partners are neighbours, and an image of a process has none.
    """
    share = plan.batch_size // world_size()
    if config.mixing.pairs_the_batch and share % 2:
        raise ConfigError(
            f"--batch-size {plan.batch_size}: --mix pairs the images of each process, and "
            f"{share} is odd"
        )
    if not config.mixing.reads_partners:
        return plan
    return PairedPlan(plan.num_samples, plan.batch_size, plan.seed, plan, labels)


def rectifying(contrast: Contrast, counts_per_class: Tensor, config: AnyFinetuneConfig) -> Contrast:
    """The contrast, with rectified labels where ConCutMix was chosen.

    Raises:
        ConfigError: it has no prototypes, or a class has no images.
    """
    if config.mixing.mix != "concutmix":
        return contrast
    if contrast.prototype_head is None:
        raise ConfigError(
            f"--mix concutmix: --loss {config.loss} has no prototypes that labels are rectified "
            "by; bcl, bcl_rcl and rcl with --use-prototypes have"
        )
    return replace(contrast, semantic_labels=SemanticLabels(counts_per_class, config.semantic))
