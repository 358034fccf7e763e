"""Mixed images in every kind of step: by the equations, in two processes, and resumed."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import Batch, Epoch, StepOutput
from ssl_lt.data.loading.plan import BatchSchedule, TrainLoader
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.finite import MicroBatch, not_finite
from ssl_lt.engine.fit import fit
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.models.batch_norm import synchronised
from ssl_lt.runs.build.finetuning import build_task, sampled_plan
from tests.distributed.pool import run_on_two
from tests.engine.tiny import plan
from tests.finetune import every_loss, toy_set, toy_steps

MIXED = [name for name, entry in LOSSES.items() if entry.mixing == "any"]
UNMIXED = [name for name in LOSSES if name not in MIXED]
NORMS = every_loss.BATCH_NORMS
BATCH = every_loss.BATCH_SIZE
# Name -> loss and flags.
CASES = {
    "mixup": ("la", {"mix": "mixup"}),
    "cutmix": ("bcl", {"mix": "cutmix", "mix_partners": "class_balanced"}),
    "concutmix": ("bcl", {"mix": "concutmix", "rectify_after": 0.0, "rectify_weight": 1.0}),
    "experts": ("ce", {"mix": "both", "experts": "ride"}),
}


def task(name):
    loss, flags = CASES[name]
    return every_loss.task(loss, backbone=NORMS, **flags)


def loader(name, *, batch_size=BATCH):
    """What the command would train from."""
    loss, flags = CASES[name]
    config, data = every_loss.config(loss, backbone=NORMS, **flags), every_loss.digits()
    batches = BatchSchedule(len(data.train), batch_size, config.run.seed)
    batches = sampled_plan(batches, build_task(config, data), config, data)
    return TrainLoader(data.train, batches, device=torch.device("cpu"))


def first_batch(name):
    return next(loader(name).epoch(0))


def begun(made, number=0):
    made.on_epoch_start(Epoch(number, 2, 1))
    return made


def test_what_compares_the_features_of_the_classified_image_is_not_mixed():
    assert set(UNMIXED) == {"elm", "paco", "gpaco", "dro_lt"}


@pytest.mark.parametrize(
    "kind",
    ["both", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("mixup", "cutmix"))],
)
@pytest.mark.parametrize("loss", MIXED)
def test_every_other_loss_steps(loss, kind):
    made = begun(every_loss.task(loss, backbone=NORMS, mix=kind))
    output = made(every_loss.batch(0))
    output.loss.backward()
    assert output.loss.isfinite()
    assert output.losses.shape == (BATCH,)
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
    plain = begun(every_loss.task(loss, backbone=NORMS))(every_loss.batch(0))
    assert not torch.equal(output.losses, plain.losses)


@pytest.mark.parametrize("loss", MIXED)
def test_without_probability_a_step_is_as_without_mixing(loss):
    made = begun(every_loss.task(loss, backbone=NORMS, mix="both", mix_probability=0.0))
    plain = begun(every_loss.task(loss, backbone=NORMS))
    batch = every_loss.batch(0)
    assert torch.equal(made(batch).loss, plain(batch).loss)


def pieces(made, batch):
    """Views 0 of a batch, mixed image by image, and the shares."""
    half = len(batch) // 2
    keys = sample_keys(batch.drawn, seed=made.seed, epoch=0, view=0)
    views = made.view(batch.images, keys)
    if made.mixer.pairs_the_batch:
        partner = [i + 1 if i % 2 == 0 else i - 1 for i in range(len(batch))]
    else:
        partner = [i + half for i in range(half)]
    mixed, shares = [], []
    for i, p in enumerate(partner):
        each, share = made.mixer(views[i : i + 1], views[p : p + 1], keys[i : i + 1])
        mixed.append(each)
        shares.append(share.item())
    return torch.cat(mixed), batch.labels[torch.tensor(partner)], shares


def test_the_loss_is_the_average_by_the_shares():
    made, batch = begun(task("mixup").eval()), every_loss.batch(0)
    mixed, partner, shares = pieces(made, batch)
    logits = made.classifier(made.backbone(mixed)).detach()
    wanted, right = [], 0.0
    for i, lam in enumerate(shares):
        own, other = (made.loss(logits[i : i + 1], y[i : i + 1]) for y in (batch.labels, partner))
        wanted.append(lam * own + (1 - lam) * other)
        found = int(logits[i].argmax())
        right += lam * (found == batch.labels[i]) + (1 - lam) * (found == partner[i])
    output = made(batch)
    torch.testing.assert_close(output.losses, torch.cat(wanted), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.loss.detach(), output.losses.mean())
    accuracy = output.terms["train_accuracy"].item()
    assert accuracy == pytest.approx(float(right) / len(batch), abs=1e-6)


def test_concutmix_by_its_equation():
    made, batch = begun(task("concutmix")), first_batch("concutmix")
    assert len(batch) == 2 * BATCH
    mixed, partner, shares = pieces(made, batch)
    assert 0 < sum(share < 1 for share in shares) < BATCH
    own = batch.first(BATCH)
    keys = [sample_keys(own.drawn, seed=made.seed, epoch=0, view=n) for n in (1, 2)]
    others = [made.contrast_view(own.images, k) for k in keys]
    features = made.backbone(torch.cat([mixed, *others]))
    logits, projected = made.classifier(features[:BATCH]), made.head(features)
    centres = made.prototype_head(made.classifier.weight)
    prior = made.semantic_labels.counts_per_class / made.semantic_labels.counts_per_class.sum()
    log_shares = torch.log_softmax(logits + prior.log(), dim=1)
    wanted = []
    for i, lam in enumerate(shares):
        label = lam * F.one_hot(own.labels[i], 10) + (1 - lam) * F.one_hot(partner[i], 10)
        if lam < 1:
            s = 1 / (projected[i] - centres).norm(dim=1)
            counts = made.semantic_labels.counts_per_class
            w = (counts @ label).log() / counts.log().sum()
            label = w * s / s.sum() + (1 - w) * label
        wanted.append(-(label.detach() * log_shares[i]).sum())
    classification = torch.stack(wanted)
    rows = labelled_rows(F.normalize(projected[BATCH:], dim=1), own.labels.repeat(2))
    contrast = made.contrast_loss(rows, F.normalize(centres, dim=1)).mean()
    total = made.weights[0] * classification.mean() + made.weights[1] * contrast
    output = begun(task("concutmix"))(batch)
    torch.testing.assert_close(output.losses, classification.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.loss, total, rtol=1e-4, atol=1e-5)


def test_pairs_may_come_in_any_order():
    made, batch = begun(task("mixup")), every_loss.batch(0)
    pairs = torch.randperm(BATCH // 2, generator=torch.Generator().manual_seed(1))
    order = torch.stack((2 * pairs, 2 * pairs + 1), dim=1).flatten()
    moved = Batch(batch.images[order], batch.labels[order], batch.index[order])
    torch.testing.assert_close(made(moved).losses, made(batch).losses[order], rtol=1e-4, atol=1e-5)


def one_step(name, *, wrap=lambda made: made):
    """Losses, terms and gradients of a step with this process's part of the first batch.

    In float64, where only an error of ours is larger than the tolerance; logits are float32.
    """
    made = begun(synchronised(task(name)).double())
    made.backbone.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    forward = wrap(made)  # kept until the gradients are there
    output = forward(first_batch(name))
    output.loss.backward()
    grads = {n: p.grad for n, p in made.named_parameters() if p.grad is not None}
    return output.losses, dict(output.terms), grads


def _of_a_rank(rank):
    def wrap(made):
        return DistributedDataParallel(made, broadcast_buffers=False)

    return {name: one_step(name, wrap=wrap) for name in CASES}


@pytest.mark.distributed
def test_two_processes_equal_one():
    first, second = run_on_two(_of_a_rank)
    for name in CASES:
        losses, terms, grads = one_step(name)
        both = torch.cat((first[name][0], second[name][0]))
        torch.testing.assert_close(both, losses, rtol=1e-5, atol=1e-6)
        for term, value in terms.items():
            mean = (first[name][1][term] + second[name][1][term]) / 2
            torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(first[name][2], grads, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(first[name][2], second[name][2], rtol=0, atol=0)


def run(folder, name, made):
    fit(
        made,
        loader(name),
        plan(checkpoint_every=1, epochs=2),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=lambda task, epoch: {},
    )
    return toy_steps.state(made)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixup", "concutmix"])
def test_resumed_inside_an_epoch_it_is_the_same_bit_for_bit(tmp_path, name):
    whole, broken = create_run_folder(tmp_path / "whole"), create_run_folder(tmp_path / "broken")
    wanted = run(whole, name, task(name))
    with pytest.raises(toy_set.DiedError):
        run(broken, name, toy_set.dying(task(name), after=6))
    found = run(broken, name, task(name))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()


@pytest.mark.parametrize(
    ("loss", "flags", "says"),
    [
        *(
            (loss, {"mix": "mixup"}, f"--mix mixup: --loss {loss} also compares")
            for loss in UNMIXED
        ),
        ("la", {"mix": "concutmix"}, "--mix concutmix: --loss la has no prototypes"),
        ("scl", {"mix": "concutmix"}, "bcl, bcl_rcl and rcl with --use-prototypes have"),
        ("bcl", {"mix": "concutmix", "reweight": "inverse"}, "--reweight: --mix concutmix"),
    ],
)
def test_what_does_not_go_together_is_refused(loss, flags, says):
    with pytest.raises(ConfigError, match=says) as error:
        every_loss.task(loss, backbone=NORMS, **flags)
    assert "\n" not in str(error.value)


def test_neighbours_need_an_even_number_and_partners_that_are_read_do_not():
    with pytest.raises(ConfigError, match="--batch-size 5: --mix pairs the images of each process"):
        loader("mixup", batch_size=5)
    assert len(next(loader("concutmix", batch_size=5).epoch(0))) == 10


def test_a_loss_that_is_not_finite_names_images_and_not_partners():
    output = StepOutput(torch.tensor(torch.nan), {}, torch.tensor([1.0, torch.nan]))
    batch = MicroBatch(torch.tensor([7, 8, 9, 10]), output)
    assert "samples 8;" in str(not_finite(3, [batch], torch.nn.Identity()))


def test_prototypes_are_enough_for_concutmix():
    for loss, flags in (("bcl_rcl", {}), ("rcl", {"use_prototypes": True})):
        made = begun(every_loss.task(loss, backbone=NORMS, mix="concutmix", **flags))
        assert made.semantic_labels is not None
