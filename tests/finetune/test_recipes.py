"""The shipped recipes say what their papers say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ssl_lt.augment.mixing import MixOptions
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.losses.semantic_labels import SemanticLabelOptions
from tests.configs import CONFIGS, recipe
from tests.configs import read as read_words
from tests.toolbox import load_yaml

LOSS_NAMES = ("ce", "la", "scl", "bcl", "rcl", "bcl_rcl")


def read(*names):
    return recipe("finetune", *names)


def test_every_loss_has_a_recipe_everywhere():
    assert set(LOSS_NAMES) <= set(LOSSES)
    for folder in ("laptop", "cifar10_lt", "cifar100_lt", "imagenet_lt"):
        for loss in LOSS_NAMES:
            assert read(f"{folder}/{loss}").loss == loss


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("factor", [100, 50, 10])
@pytest.mark.parametrize("epochs", [200, 400])
def test_cifar_recipes_combine(data, loss, factor, epochs):
    folder = f"{data}_lt"
    names = [f"{folder}/{loss}"]
    names += [f"{folder}/if{factor}"] * (factor != 100)
    names += [f"{folder}/epochs_400"] * (epochs == 400)
    config = read(*names)
    assert (config.data.data, config.data.imbalance_factor) == (data, factor)
    assert (config.fit.epochs, config.fit.batch_size) == (epochs, 256)
    assert config.model.backbone == "resnet32_cifar"
    assert [m * epochs for m in config.schedule.milestones] == pytest.approx(
        [160, 180] if epochs == 200 else [360, 380]
    )
    assert config.schedule.warmup_epochs == (5 if epochs == 200 else 10)
    assert config.optim.lr == (0.15 if loss == "bcl" else 0.2)
    assert config.augment == "autoaugment"
    if LOSSES[loss].contrast is not None:
        options = config.options
        weights = options.classification_weight, options.contrast_weight, options.tau
        assert weights == ((2, 0.6, 1) if loss == "bcl" else (2, 1, 1.3))
        assert (options.temperature, options.hidden_dim, options.output_dim) == (0.1, 512, 128)


def test_sbcl_weighs_its_terms_as_the_released_code_does():
    released = 0.25 / (0.1 / 0.07)  # its first term is multiplied by t / 0.07
    for options in (read("laptop/sbcl").options, read("cifar100_lt/sbcl").options):
        assert options.class_weight == pytest.approx(released)
    assert LOSSES["sbcl"].options().class_weight == pytest.approx(released)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_imagenet_recipes(loss):
    config = read(f"imagenet_lt/{loss}", "imagenet_lt/resnext50")
    assert config.model.backbone == "resnext50_32x4d"
    assert read(f"imagenet_lt/{loss}").model.backbone == "resnet50"
    assert (config.optim.lr, config.fit.epochs, config.classifier) == (0.1, 90, "cosine")


@pytest.mark.parametrize(
    ("more", "rectified_from"), [((), 100), (("cifar100_lt/epochs_400",), 200)]
)
def test_concutmix_is_bcl_with_mixed_images(more, rectified_from):
    config, bcl = read("cifar100_lt/concutmix", *more), read("cifar100_lt/bcl", *more)
    assert config.mixing == MixOptions("concutmix", 1.0, 0.5, "class_balanced")
    assert config.semantic == SemanticLabelOptions()
    assert config.semantic.rectify_after * config.fit.epochs == rectified_from
    assert config.options == replace(bcl.options, tau=0.9)
    assert not config.cutout
    for part in ("data", "model", "optim", "schedule", "fit", "augment"):
        assert getattr(config, part) == getattr(bcl, part), part


def test_rows_of_the_laptop_comparison_take_as_long_and_share_their_recipe():
    plan = load_yaml(CONFIGS / "compare" / "finetune_cifar100_lt_laptop.yaml")
    assert plan["verb"] == "finetune"
    shared, losses, kinds = read("fast"), set(), set()
    for row in plan["rows"]:
        files = [word for name in row["config"] for word in ("--config", f"{plan['verb']}/{name}")]
        flags = [word for name, value in row["flags"].items() for word in (f"--{name}", str(value))]
        config = read_words(plan["verb"], [*files, *flags])
        views = 1 if LOSSES[config.loss].contrast is None else 3
        passes = views * (2 if config.optim.sam else 1)
        assert passes * config.fit.epochs == 18, row["name"]
        assert config.schedule.warmup_epochs == pytest.approx(config.fit.epochs / 9, abs=0.5)
        for part in ("model", "augment", "classifier"):
            assert getattr(config, part) == getattr(shared, part), part
        assert replace(config.optim, sam=shared.optim.sam) == shared.optim
        assert replace(config.fit, epochs=shared.fit.epochs) == shared.fit
        assert config.run == shared.run
        kinds.add(config.data)
        losses.add(config.loss)
    assert [data.data for data in kinds] == ["cifar100"]
    assert losses == set(LOSS_NAMES)
