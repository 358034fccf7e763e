from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import Batch
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.finetune.tasks.weak_classes import WeakClasses
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.losses.logit_adjustment import logit_adjusted_cross_entropy
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on_two
from tests.finetune import toy

CONTRASTS = [name for name, entry in LOSSES.items() if entry.contrast is not None]
WITH_PROTOTYPES = {"bcl", "bcl_rcl"}
CLOSE = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}  # losses are taken in float32


def test_there_are_four():
    assert CONTRASTS == ["scl", "bcl", "rcl", "bcl_rcl"]


@pytest.mark.parametrize("name", CONTRASTS)
def test_the_loss_is_the_sum_of_its_equations(name):
    task, batch = toy.task(name), toy.batch(0)
    task.on_epoch_start(toy.epoch(2))
    out = task(batch)

    views = []
    for number, light in enumerate((0.6, 0.3, 0.3)):
        keys = sample_keys(batch.index, seed=3, epoch=2, view=number)
        views.append(toy.Light(light)(batch.images, keys))
    features = task.backbone(torch.cat(views))
    logits, labels = task.classifier(features[:8]).float(), batch.labels
    options = LOSSES[name].options()
    prior = (toy.COUNTS / toy.COUNTS.sum()).log()
    ce = logit_adjusted_cross_entropy(logits, labels, prior, tau=options.tau).mean()
    z = F.normalize(task.head(features[8:]).float(), dim=1)
    prototypes = None
    if name in WITH_PROTOTYPES:
        prototypes = F.normalize(task.prototype_head(task.classifier.weight).float(), dim=1)
    rows = labelled_rows(z, labels.repeat(2))
    contrast = LOSSES[name].contrast(toy.COUNTS, options)(rows, prototypes).mean()
    want = options.classification_weight * ce + options.contrast_weight * contrast
    torch.testing.assert_close(out.loss, want, **CLOSE)
    assert set(out.terms) == {"classification", "contrast", "train_accuracy"}
    torch.testing.assert_close(out.terms["classification"], ce.detach(), **CLOSE)
    torch.testing.assert_close(out.terms["contrast"], contrast.detach(), **CLOSE)
    assert not any(term.requires_grad for term in out.terms.values())


def test_all_views_go_through_the_backbone_in_one_batch():
    task, sizes = toy.task("bcl"), []
    task.backbone.register_forward_hook(lambda m, x, out: sizes.append(len(x[0])))
    task(toy.batch(0))
    assert sizes == [24]


def test_only_view_0_is_classified_and_only_the_others_are_contrasted():
    task, seen = toy.task("bcl"), {}
    task.backbone.register_forward_hook(lambda m, x, out: seen.update(all=out))
    task.classifier.register_forward_hook(lambda m, x, out: seen.update(classified=x[0]))
    task.head.register_forward_hook(lambda m, x, out: seen.update(contrasted=x[0]))
    task(toy.batch(0))
    assert torch.equal(seen["classified"], seen["all"][:8])
    assert torch.equal(seen["contrasted"], seen["all"][8:])


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
@pytest.mark.parametrize("name", CONTRASTS)
def test_a_step_reaches_every_parameter(name, classifier):
    task = toy.task(name, classifier=classifier)
    task(toy.batch(0)).loss.backward()
    # Batch norm takes the first bias of a head off again.
    before_norm = {"head.0.bias", "prototype_head.0.bias"}
    dead = [
        n
        for n, p in task.named_parameters()
        if p.grad is None or not (p.grad.abs().max() > 0 or n in before_norm)
    ]
    assert dead == []


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_prototypes_are_one_unit_row_a_class_with_gradient_to_the_classifier(classifier):
    task = toy.task("bcl", classifier=classifier)
    weight = task.classifier.weight
    assert weight.shape == (toy.NUM_CLASSES, 8)
    prototypes = task.prototypes()
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(toy.NUM_CLASSES))
    (grad,) = torch.autograd.grad((prototypes * torch.randn(toy.NUM_CLASSES, 6)).sum(), weight)
    assert (grad.abs().sum(dim=1) > 0).all()
    # Row j is class j: permuted classes, permuted prototypes.
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        weight.copy_(weight[order].clone())
    torch.testing.assert_close(task.prototypes(), prototypes[order])


@pytest.mark.parametrize("name", ["scl", "rcl"])
def test_no_prototypes_where_the_loss_has_none(name):
    task = toy.task(name)
    assert task.prototypes() is None
    assert not any("prototype" in key for key in task.state_dict())


def test_prototypes_do_not_depend_on_evaluation_mode():
    task = toy.task("bcl")
    trained = task.prototypes()
    torch.testing.assert_close(task.eval().prototypes(), trained)


def test_cropped_views_are_taken_in_their_order():
    task, whole = toy.task("bcl"), toy.batch(0)
    crops = torch.stack([whole.images, whole.images.flip(-1), whole.images.flip(-2)], dim=1)
    seen = []
    task.backbone.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    task(Batch(crops, whole.labels, whole.index))
    for number, light in enumerate((0.6, 0.3, 0.3)):
        keys = sample_keys(whole.index, seed=3, epoch=0, view=number)
        want = toy.Light(light).after_crop(crops[:, number], keys)
        assert torch.equal(seen[0][8 * number : 8 * number + 8], want)


@pytest.mark.parametrize("name", CONTRASTS)
def test_learns(name):
    task = toy.task(name)
    sgd = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(30):
        loss = task(toy.batch(0)).loss
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_weak_classes_are_compressed_in_the_next_epoch():
    weak = toy.weak(factor=0.5)
    task = toy.task("rcl", weak_classes=weak)
    (memory,) = task.memories()
    first = task(toy.batch(0)).terms["contrast"]
    torch.testing.assert_close(first, toy.task("rcl")(toy.batch(0)).terms["contrast"])
    seen, right = memory.tables["seen"].clone(), memory.tables["right"].clone()
    assert torch.equal(seen, torch.bincount(toy.batch(0).labels, minlength=5).float())
    task.on_epoch_end(toy.epoch(0))
    accuracy = right / seen.clamp(min=1)
    assert torch.equal(weak.factors == 0.5, accuracy < accuracy.mean())
    assert not memory.tables["seen"].any()
    weak.factors.copy_(torch.tensor([0.5, 1, 1, 1, 1]))
    other = toy.task("rcl", weak_classes=weak)
    assert not torch.allclose(other(toy.batch(0)).terms["contrast"], first)


def test_compression_waits_for_its_epoch():
    weak = type(toy.weak())(3, factor=0.1, start=0.8)
    for number in range(10):
        weak.observe(torch.tensor([0, 1, 1, 2]), torch.tensor([True, True, True, False]))
        assert torch.equal(weak.factors, torch.ones(3)) == (number < 8)
        weak.on_epoch_end(toy.epoch(number, total=10), nn.Identity())
    torch.testing.assert_close(weak.factors, torch.tensor([1.0, 1.0, 0.1]))


def test_held_out_images_decide_where_there_are_any():
    asked = []

    def held_out_accuracy(network):
        asked.append(network(toy.batch(0).images.double() / 255).shape)
        return torch.tensor([0.9, 0.2, 0.9, 0.1, 0.9])

    weak = WeakClasses(5, factor=0.5, start=0.5, held_out_accuracy=held_out_accuracy)
    task = toy.task("rcl", weak_classes=weak)
    for number in range(4):
        task(toy.batch(number))
        task.on_epoch_end(toy.epoch(number, total=4))
        assert len(asked) == max(0, number)  # not before it is needed
    assert asked[0] == (8, 5)  # logits
    torch.testing.assert_close(weak.factors, torch.tensor([1.0, 0.5, 1.0, 0.5, 1.0]))


def test_without_compression_there_is_nothing_to_save():
    assert toy.task("rcl").memories() == ()


def _run(task, *, forward=None, share=lambda b: b):
    """Three steps: losses, prototypes before each, last gradients, state at the end."""
    sgd = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9)
    losses, prototypes, grads = [], [], {}
    for number in range(3):
        found = task.prototypes()
        prototypes.append(torch.zeros(1) if found is None else found.detach().clone())
        sgd.zero_grad()
        loss = (forward or task)(share(toy.batch(number))).loss
        loss.backward()
        grads = {n: p.grad.clone() for n, p in task.named_parameters()}
        sgd.step()
        losses.append(loss.detach())
    task.on_epoch_end(toy.epoch(0))
    memory = {k: v for m in task.memories() for k, v in m.state_dict().items()}
    state = {k: v.clone() for k, v in task.state_dict().items()}
    return {
        "losses": torch.stack(losses),
        "prototypes": prototypes,
        "grads": grads,
        "state": state,
        "memory": memory,
    }


def _make(name):
    return toy.task(name, weak_classes=toy.weak())


def _rank_runs(rank):
    out = {}
    for name in CONTRASTS:
        task = synchronised(_make(name))
        wrapped = DistributedDataParallel(task, broadcast_buffers=False)
        out[name] = _run(task, forward=wrapped, share=lambda b: toy.half(b, rank))
    return out


@pytest.fixture(scope="module")
def ranks():
    return run_on_two(_rank_runs)


@pytest.mark.distributed
@pytest.mark.parametrize("name", CONTRASTS)
def test_two_processes_equal_one(ranks, name):
    first, second = (r[name] for r in ranks)
    alone = _run(_make(name))
    losses = (first.pop("losses") + second.pop("losses")) / 2
    torch.testing.assert_close(losses, alone.pop("losses"), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    # Projections are compared in float32, so gradients carry its rounding.
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=2e-6)
