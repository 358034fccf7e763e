"""The step of SBCL."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.kmeans import kmeans
from ssl_lt.core.random import sample_keys, seed_of
from ssl_lt.core.types import Batch
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.losses.logit_adjustment import class_log_prior, logit_adjusted_cross_entropy
from ssl_lt.losses.subclass_contrastive import (
    ranked_contrastive,
    temperatures_by_density,
    two_level_contrastive,
)
from ssl_lt.losses.supervised_contrastive import supervised_contrastive
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on_two
from tests.finetune import toy, toy_set, toy_steps

CLOSE = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}  # losses are taken in float32
# Of classes with 40, 14, 6 and 4 samples.
SUB_CLASSES = torch.tensor([8, 2, 1, 1])
PARENTS = torch.tensor([0] * 8 + [1, 1, 2, 3])


def task(**options):
    given = {"cluster_after": 1, "recluster_every": 1, "smallest_sub_class": 5}
    return toy_set.task("sbcl", hidden_dim=7, output_dim=6, **{**given, **options})


def tables(task):
    return task.memories()[-1].tables


def projections(task):
    """Of the whole set, on the unit sphere, in evaluation mode."""
    task.eval()
    with torch.no_grad():
        z = task.head(task.backbone(toy_set.Loader().images.double() / 255))
    task.train()
    return F.normalize(z.float(), dim=1)


@pytest.mark.parametrize("form", ["rank", "ccl"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("compression", [1.0, 0.5])
def test_the_loss_is_the_sum_of_its_equations(form, number, compression):
    made = task(form=form, tau=0.7, class_weight=0.4, contrast_weight=0.6, compression=compression)
    (batch, *_) = toy_set.batches(0)
    made.on_epoch_start(toy.epoch(number))
    factors = torch.ones(4)
    if compression != 1:
        factors = torch.tensor([1.0, 0.5, 1.0, 0.5])
        made.weak_classes.factors.copy_(factors)
    out = made(batch)

    views = []
    for view, light in enumerate((0.6, 0.3, 0.3)):
        keys = sample_keys(batch.index, seed=3, epoch=number, view=view)
        views.append(toy.Light(light)(batch.images, keys))
    features, labels = made.backbone(torch.cat(views)), batch.labels
    ce = logit_adjusted_cross_entropy(
        made.classifier(features[:16]),
        labels,
        class_log_prior(toy_set.Loader().counts),
        tau=0.7,
    ).mean()
    z = F.normalize(made.head(features[16:]).float(), dim=1) * factors[labels.repeat(2), None]
    sub_labels = tables(made)["labels"][batch.index].repeat(2)
    if number == 0:
        contrast = supervised_contrastive(labelled_rows(z, labels.repeat(2)), temperature=0.1)
    elif form == "ccl":
        assert torch.equal(PARENTS[sub_labels], labels.repeat(2))
        contrast = two_level_contrastive(
            labelled_rows(z, sub_labels), PARENTS, temperature=0.1, class_weight=0.4
        )
    else:
        contrast = ranked_contrastive(
            labelled_rows(z, sub_labels),
            torch.arange(32).roll(16),
            PARENTS,
            tables(made)["temperatures"],
            temperature=0.1,
            class_weight=0.4,
        )
    torch.testing.assert_close(out.loss, 2 * ce + 0.6 * contrast.mean(), **CLOSE)
    torch.testing.assert_close(out.terms["contrast"], contrast.mean().detach(), **CLOSE)


def test_sub_classes_are_clusters_of_the_projections():
    made, loader = task(), toy_set.Loader()
    made.train()
    made.on_epoch_start(toy.epoch(1))
    assert all(part.training for part in made.modules())
    assert made.sub_classes_per_class.tolist() == SUB_CLASSES.tolist()
    assert torch.equal(made.parents, PARENTS)
    z, found = projections(made), tables(made)
    offset = 0
    for number, k in enumerate(SUB_CLASSES.tolist()):
        seed = seed_of(seed_of(3, 1), number)
        want = kmeans(z[loader.labels == number], k, seed=seed, iterations=35)
        assert torch.equal(found["labels"][loader.labels == number], offset + want)
        offset += k
    phi = temperatures_by_density(z, loader.labels, SUB_CLASSES, temperature=0.1)
    torch.testing.assert_close(found["temperatures"], phi, **CLOSE)


def test_they_are_found_when_it_is_time_and_once():
    made, asked, sets = task(cluster_after=2, recluster_every=3), [], []
    features = made.train_features
    made.train_features = lambda network: asked.append(number) or features(network)
    for number in range(9):
        for _ in range(2):  # the second time as upon resume within the epoch
            made.on_epoch_start(toy.epoch(number, total=9))
        with torch.no_grad():
            made.backbone[0].weight.add_(0.1 * torch.randn_like(made.backbone[0].weight))
        sets.append(tables(made)["labels"].clone())
    assert asked == [2, 5, 8]
    changed = [n for n in range(1, 9) if not torch.equal(sets[n], sets[n - 1])]
    assert changed == [2, 5, 8]


def test_classes_of_one_size_stay_whole():
    made = task(smallest_sub_class=30)
    made.on_epoch_start(toy.epoch(1))
    assert torch.equal(tables(made)["labels"], toy_set.Loader().labels)


@pytest.mark.parametrize("form", ["rank", "ccl"])
def test_a_step_reaches_every_parameter(form):
    made = task(form=form)
    made.on_epoch_start(toy.epoch(1))
    made(toy_set.batches(0)[0]).loss.backward()
    dead = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(dead) <= {"head.0.bias"}  # batch norm takes it off again


@pytest.mark.parametrize("form", ["rank", "ccl"])
def test_learns(form):
    made = task(form=form)
    made.on_epoch_start(toy.epoch(1))
    optimizer, losses = toy_steps.sgd(made), []
    for _ in range(20):
        loss = made(toy_set.batches(0)[0]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("form", ["rank", "ccl"])
@pytest.mark.parametrize("rows", [[0], [3, 5, 9], [60, 61]])
def test_is_finite_for_a_few_rows_of_one_class(rows, form):
    made, loader = task(form=form), toy_set.Loader()
    made.on_epoch_start(toy.epoch(1))
    index = torch.tensor(rows)
    loss = made(Batch(loader.images[index], loader.labels[index], index)).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize("after", [6, 8])
def test_resumed_anywhere_it_is_the_same_bit_for_bit(tmp_path, after):
    whole, broken = create_run_folder(tmp_path / "whole"), create_run_folder(tmp_path / "broken")
    wanted = toy_set.run(whole, task())
    with pytest.raises(toy_set.DiedError):
        toy_set.run(broken, toy_set.dying(task(), after=after))
    found = toy_set.run(broken, task())
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()


def _rank_runs(rank):
    out = []
    for form in ("rank", "ccl"):
        made = synchronised(task(form=form))
        wrapped = DistributedDataParallel(made, broadcast_buffers=False)
        losses, grads = toy_set.epochs_on(
            made, forward=wrapped, share=lambda b: toy.half(b, rank), numbers=(1, 2)
        )
        out.append((losses, grads, toy_steps.state(made)))
    return out


@pytest.fixture(scope="module")
def ranks():
    return run_on_two(_rank_runs)


@pytest.mark.distributed
@pytest.mark.parametrize("form", ["rank", "ccl"])
def test_two_processes_equal_one(ranks, form):
    (first, *of_first), (second, *of_second) = (r[form == "ccl"] for r in ranks)
    made = task(form=form)
    losses, grads = toy_set.epochs_on(made, numbers=(1, 2))
    torch.testing.assert_close((first + second) / 2, losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(of_first, of_second, rtol=0, atol=0)
    # Projections are compared in float32, so gradients carry its rounding.
    torch.testing.assert_close(of_first, [grads, toy_steps.state(made)], rtol=1e-4, atol=1e-5)
