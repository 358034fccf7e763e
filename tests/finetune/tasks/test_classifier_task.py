from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from ssl_lt.augment.views import ContrastiveView, ViewOptions, WeakView, WorkerCrop
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import Batch, Epoch, ImageSpec
from ssl_lt.data.images.crops import crop_then_resize
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.losses.cross_entropy import CrossEntropy, CrossEntropyOptions
from ssl_lt.models.backbones import create_backbone, feature_dim
from ssl_lt.models.tuning.apply import apply_tuning
from tests.engine.tiny import TinyLoader, plan
from tests.finetune import toy

STATISTICS = {"mean": [0.4] * 3, "std": [0.2] * 3}


def task(tune="all", view=None):
    torch.manual_seed(0)
    backbone = create_backbone("resnet20_cifar", width=4, image_size=8)
    apply_tuning(backbone, tune, num_classes=4)
    loss = CrossEntropy(torch.ones(4), CrossEntropyOptions())
    classifier = nn.Linear(feature_dim(backbone), 4)
    view = view or WeakView(ImageSpec(8, **STATISTICS), flip_probability=0.5)
    parts = toy.modules(backbone=backbone, classifier=classifier, view=view, tune=tune, seed=5)
    return ClassifierTask(parts, loss)


@pytest.fixture
def batch():
    loader = TinyLoader()
    return next(loader.epoch(0))


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not value.equal(before[name])}


def train(task, folder, trained_epochs=2):
    fit(
        task,
        TinyLoader(),
        plan(epochs=trained_epochs),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=create_run_folder(folder),
        end_of_epoch=lambda task, epoch: {},
    )


def test_a_frozen_backbone_keeps_weights_and_running_statistics(tmp_path):
    frozen = task("head")
    backbone, classifier = state(frozen.backbone), state(frozen.classifier)
    train(frozen, tmp_path / "run")
    assert changed(backbone, frozen.backbone) == set()
    assert changed(classifier, frozen.classifier) == {"weight", "bias"}
    assert frozen.training
    assert not any(module.training for module in frozen.backbone.modules())


@pytest.mark.parametrize("tune", ["norms", "bias", "last-1", "ssf"])
def test_a_part_that_learns_alone_leaves_running_statistics(tmp_path, tune):
    tuned = task(tune)
    before = state(tuned.backbone)
    train(tuned, tmp_path / "run")
    trained = {name for name, p in tuned.backbone.named_parameters() if p.requires_grad}
    assert changed(before, tuned.backbone) == trained != set()


def test_otherwise_everything_learns(tmp_path):
    whole = task("all")
    backbone = state(whole.backbone)
    train(whole, tmp_path / "run")
    found = changed(backbone, whole.backbone)
    assert {name for name, _ in whole.backbone.named_parameters()} <= found
    assert {"bn1.running_mean", "bn1.running_var"} <= found


def test_the_loss_is_that_of_the_views_logits(batch):
    whole = task().eval()
    whole.on_epoch_start(Epoch(3, 10, 4))
    output = whole(batch)
    keys = sample_keys(batch.index, seed=5, epoch=3, view=0)
    logits = whole.classifier(whole.backbone(whole.view(batch.images, keys)))
    torch.testing.assert_close(output.loss, F.cross_entropy(logits, batch.labels))
    right = sum(int(row.argmax()) == int(y) for row, y in zip(logits, batch.labels, strict=True))
    assert output.terms["train_accuracy"].item() == pytest.approx(right / len(batch))
    assert not output.terms["train_accuracy"].requires_grad


@pytest.mark.parametrize("offset", [0, 1])
def test_the_accuracy_counts_right_predictions(batch, offset):
    whole = task().eval()
    with torch.no_grad():
        whole.classifier.weight.zero_()
        whole.classifier.bias.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))
    labels = torch.full_like(batch.labels, 2 + offset)
    labels[:4] = 2
    output = whole(Batch(batch.images, labels, batch.index))
    assert output.terms["train_accuracy"].item() == (1.0 if offset == 0 else 4 / len(batch))


def test_the_view_follows_epoch_and_sample_and_nothing_else(batch):
    whole = task().eval()
    losses = []
    for number in (0, 1, 0):
        whole.on_epoch_start(Epoch(number, 2, 4))
        losses.append(whole(batch).loss.item())
    assert losses[0] == losses[2] != losses[1]


def test_pictures_that_workers_have_cut_are_not_cut_again(batch):
    """The step is the same whether the view crops or a worker did: up to the way of resizing."""
    from PIL import Image

    options = ViewOptions(min_scale=0.2, jitter_probability=0, gray_probability=0)
    whole = task(view=ContrastiveView(options, ImageSpec(8, **STATISTICS))).eval()
    crop = WorkerCrop((options,), seed=5)
    smooth = F.interpolate(batch.images.float(), size=(40, 40), mode="bilinear").byte()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in smooth]
    cuts = torch.stack(
        [
            crop_then_resize(picture, boxes, size=8)
            for picture, boxes in zip(
                pictures, crop.boxes(0, batch.index.tolist(), [(40, 40)] * 16), strict=True
            )
        ]
    )
    assert cuts.shape == (16, 1, 3, 8, 8)
    keys = sample_keys(batch.index, seed=5, epoch=0, view=0)
    expected = whole.view(smooth, keys)
    difference = (whole.view.after_crop(cuts[:, 0], keys) - expected).abs().mean()
    assert difference < 0.1
    output = whole(Batch(cuts, batch.labels, batch.index))
    wanted = whole(Batch(smooth, batch.labels, batch.index))
    assert output.loss.item() == pytest.approx(wanted.loss.item(), rel=0.05)
    again = whole(Batch(cuts[:, 0], batch.labels, batch.index))
    assert abs(again.loss.item() - wanted.loss.item()) > abs(
        output.loss.item() - wanted.loss.item()
    )
