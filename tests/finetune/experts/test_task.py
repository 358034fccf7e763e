from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import sample_keys
from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.engine.checkpoints.run_folder import RunFolder, create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.finetune.balance.reweighting import ReweightedLoss, ReweightOptions
from ssl_lt.finetune.experts.groups import image_shares, nested_groups
from ssl_lt.finetune.experts.options import ExpertOptions
from ssl_lt.finetune.experts.task import ExpertTask, expert_classifier, expert_loss
from ssl_lt.losses.logit_adjustment import LogitAdjustment, LogitAdjustmentOptions
from ssl_lt.models.backbones import create_experts, feature_dim
from ssl_lt.models.batch_norm import synchronised
from ssl_lt.models.classifiers import CosineClassifier, linear_classifier
from tests.distributed.pool import run_on_two
from tests.engine.tiny import TinyLoader, plan
from tests.finetune import toy

RIDE = ExpertOptions(experts="ride", class_temperature=0.4, class_temperature_start=0.5)
ACE = ExpertOptions(experts="ace")
KINDS = {"ride": RIDE, "ace": ACE}


def build_loss(counts):
    loss = LogitAdjustment(counts, LogitAdjustmentOptions())
    return ReweightedLoss(loss, counts, ReweightOptions(reweight="effective", reweight_after=0.5))


def task(kind, *, counts=toy.COUNTS, new_head=linear_classifier, task_class=ExpertTask):
    torch.manual_seed(0)
    options = KINDS[kind]
    backbone = create_experts(
        "resnet20_cifar",
        width=4,
        image_size=8,
        num_experts=options.num_experts,
        expert_width=options.expert_width,
        shared_gradient="first" if kind == "ace" else "all",
    )
    heads = [new_head(feature_dim(backbone) // 3, len(counts)) for _ in range(3)]
    parts = toy.modules(backbone=backbone, classifier=expert_classifier(heads, counts, options))
    return task_class(parts, expert_loss(build_loss, counts, options)).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("new_head", [linear_classifier, CosineClassifier])
def test_a_step_reaches_every_parameter(kind, new_head):
    made = task(kind, new_head=new_head)
    out = made(toy.batch(0))
    out.loss.backward()
    dead = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert not out.terms["train_accuracy"].requires_grad


def test_the_ride_step_is_the_sum_of_its_experts():
    made, batch = task("ride").eval(), toy.batch(0)
    made.on_epoch_start(toy.epoch(0))
    images = toy.Light(0.6)(batch.images, sample_keys(batch.index, seed=3, epoch=0, view=0))
    z = made.classifier.per_expert(made.backbone(images)).float()
    prior = (toy.COUNTS / toy.COUNTS.sum()).log()
    p = F.softmax(z.mean(dim=0), dim=1)
    total = sum(
        F.cross_entropy(own + prior, batch.labels)
        - 0.2 * F.kl_div(F.log_softmax(own, dim=1), p, reduction="batchmean")
        for own in z
    )
    out = made(batch)
    torch.testing.assert_close(out.loss, total, rtol=1e-5, atol=1e-6, check_dtype=False)
    right = (z.mean(dim=0).argmax(dim=1) == batch.labels).float().mean()
    assert out.terms["train_accuracy"] == right


def test_parts_of_a_loss_hear_of_the_epoch():
    made = task("ride")
    first = made.loss.temperatures.clone()
    made.on_epoch_start(toy.epoch(2))
    assert not torch.equal(made.loss.temperatures, first)
    assert not torch.equal(made.loss.loss.current, torch.ones(5))


def test_in_ace_an_expert_learns_at_the_pace_of_its_share():
    """Gradients of expert e are r_e times those of its loss; the shared part's are the first's."""
    batch = toy.batch(0)
    made, equal = task("ace"), task("ace")
    equal.loss.rates.fill_(1.0)
    for each in (made, equal):
        each(batch).loss.backward()
    shares = image_shares(toy.COUNTS, nested_groups(toy.COUNTS, num_experts=3, rule="thirds"))
    assert shares[0] == 1
    for e, share in enumerate(shares.tolist()):
        for part in ("backbone.experts", "classifier.heads"):
            found = dict(made.get_submodule(f"{part}.{e}").named_parameters())
            for name, parameter in equal.get_submodule(f"{part}.{e}").named_parameters():
                # Losses are taken in float32; the largest gradients are near 0.1.
                torch.testing.assert_close(
                    found[name].grad, share * parameter.grad, rtol=1e-5, atol=1e-7
                )
    assert torch.equal(made.backbone.conv1.weight.grad, equal.backbone.conv1.weight.grad)


@pytest.mark.parametrize("num_classes", [3, 10, 11, 100])
def test_thirds_are_nested_groups_by_thirds(num_classes):
    counts = torch.randint(1, 50, (num_classes,), generator=torch.Generator().manual_seed(0))
    groups = groups_by_thirds(counts.numpy())
    found = nested_groups(counts, num_experts=3, rule="thirds")
    assert found[0].all()
    rarer = np.sort(np.concatenate([groups.medium, groups.few]))
    assert np.flatnonzero(found[1]).tolist() == rarer.tolist()
    assert np.flatnonzero(found[2]).tolist() == list(groups.few)


def test_groups_by_count():
    counts = torch.tensor([300, 100, 101, 20, 19, 1])
    found = nested_groups(counts, num_experts=3, rule="counts")
    assert found.int().tolist() == [[1] * 6, [0, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]]
    assert groups_by_count(counts.numpy()).few == (4, 5)
    assert image_shares(counts, found).tolist() == pytest.approx([1, 140 / 541, 20 / 541])


def test_four_experts_have_ever_rarer_quarters():
    found = nested_groups(torch.arange(9), num_experts=4, rule="thirds")
    assert found.sum(dim=1).tolist() == [9, 6, 4, 2]
    assert found[3].tolist() == [True, True] + [False] * 7


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([300, 50], {}, "--num-experts: 3 leaves expert 2 of 3 without a class"),
        ([300, 50, 20], {"rule": "counts"}, "--expert-groups: counts leaves expert 3 of 3"),
    ],
)
def test_a_group_without_classes(counts, options, message):
    with pytest.raises(ConfigError, match=message):
        nested_groups(torch.tensor(counts), **{"num_experts": 3, "rule": "thirds", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_experts": 1}, "--num-experts: 1, must be at least 2"),
        ({"expert_width": 0.0}, r"--expert-width: 0.0 is outside \(0, 1\]"),
        ({"expert_width": 1.5}, "--expert-width: 1.5"),
        ({"diversity_weight": float("nan")}, "--diversity-weight: nan is not finite"),
        ({"diversity_temperature": 0.0}, "--diversity-temperature: 0.0"),
        ({"class_temperature": 1.0}, r"--class-temperature: 1.0 is outside \[0, 1\)"),
        ({"class_temperature_start": 2.0}, "--class-temperature-start: 2.0"),
        ({"experts": "ace", "interference_weight": -1.0}, "--interference-weight: -1.0"),
        ({"experts": "ace", "expert_groups": "counts", "num_experts": 4}, "--num-experts: 4"),
        ({"experts": "ace", "diversity_weight": 0.1}, "--diversity-weight belongs to --experts ri"),
        ({"expert_rates": "equal"}, "--expert-rates belongs to --experts ace"),
        ({"experts": "none", "num_experts": 4}, "--num-experts belongs to --experts ride or ace"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        ExpertOptions(**{"experts": "ride", **options})


def test_without_experts_the_rest_is_left_alone():
    assert replace(ExpertOptions(), experts="none") == ExpertOptions()


class DiedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_it_is_the_same_bit_for_bit(kind, tmp_path):
    counts = torch.bincount(TinyLoader().labels)

    class Dies(ExpertTask):
        steps = 0

        def forward(self, batch):
            if self.steps == 9:
                raise DiedError
            self.steps += 1
            return super().forward(batch)

    def run(name, task_class=ExpertTask):
        made = task(kind, counts=counts, task_class=task_class).float()
        made.view = lambda images, keys, strength=None: toy.Light(0.6)(images, keys).float()
        folder = tmp_path / name
        fit(
            made,
            TinyLoader(),
            plan(checkpoint_every=1),
            accelerator=Accelerator(cpu=True, mixed_precision="no"),
            folder=create_run_folder(folder) if not folder.exists() else RunFolder(folder),
            end_of_epoch=lambda task, epoch: {},
        )
        return made.state_dict()

    expected = run("whole")
    with pytest.raises(DiedError):
        run("broken", Dies)
    found = run("broken")
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def _run(made, *, forward=None, share=lambda b: b):
    """Three steps in the last epoch: losses, last gradients, state at the end."""
    sgd = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9)
    made.on_epoch_start(toy.epoch(2))
    losses, grads = [], {}
    for number in range(3):
        sgd.zero_grad()
        loss = (forward or made)(share(toy.batch(number))).loss
        loss.backward()
        grads = {n: p.grad.clone() for n, p in made.named_parameters()}
        sgd.step()
        losses.append(loss.detach())
    state = {k: v.clone() for k, v in made.state_dict().items()}
    return {"losses": torch.stack(losses), "grads": grads, "state": state}


def _rank_runs(rank):
    out = {}
    for kind in KINDS:
        made = synchronised(task(kind))
        wrapped = DistributedDataParallel(made, broadcast_buffers=False)
        out[kind] = _run(made, forward=wrapped, share=lambda b: toy.half(b, rank))
    return out


@pytest.fixture(scope="module")
def ranks():
    return run_on_two(_rank_runs)


@pytest.mark.distributed
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(ranks, kind):
    first, second = (r[kind] for r in ranks)
    alone = _run(task(kind))
    losses = (first.pop("losses") + second.pop("losses")) / 2
    torch.testing.assert_close(losses, alone.pop("losses"), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    # Losses are taken in float32, so gradients carry its rounding.
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=2e-6)
