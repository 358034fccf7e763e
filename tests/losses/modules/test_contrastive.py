"""The public contrasts give what the steps of `finetune.py` and `pretrain.py` compute."""

from __future__ import annotations

import pytest
import torch

from ssl_lt import losses
from ssl_lt.core.errors import ConfigError
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.pretrain.simclr import SimCLR
from ssl_lt.pretrain.temperature import TemperatureOptions
from tests.distributed.pool import run_on_two
from tests.finetune import toy
from tests.pretrain import toy as pairs

PUBLIC = {
    "scl": lambda **options: losses.SupervisedContrastiveLoss(**options),
    "bcl": lambda **options: losses.BalancedContrastiveLoss(**options),
    "rcl": lambda **options: losses.RebalancedContrastiveLoss(toy.COUNTS, **options),
    "bcl_rcl": lambda **options: losses.RebalancedContrastiveLoss(
        toy.COUNTS, class_average=True, **options
    ),
}
WITH_PROTOTYPES = ("bcl", "bcl_rcl")
CLOSE = {"rtol": 1e-6, "atol": 1e-6, "check_dtype": False}


def test_every_contrast_of_the_registry_is_there():
    assert set(PUBLIC) == {name for name, entry in LOSSES.items() if entry.contrast is not None}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_loop_of_ones_own_computes_what_a_step_of_finetune_computes(name):
    task, batch = toy.task(name), toy.batch(0)
    task.on_epoch_start(toy.epoch(0))
    options, labels = LOSSES[name].options(), batch.labels
    views = [
        task.view_of(batch, v, number=n)
        for n, v in enumerate((task.view, task.contrast_view, task.contrast_view))
    ]
    first, others = task.backbone(torch.cat(views)).tensor_split([len(batch)])
    z1, z2 = task.head(others).chunk(2)
    more = [task.prototype_head(task.classifier.weight)] if name in WITH_PROTOTYPES else []

    classification = losses.LogitAdjustedLoss(toy.COUNTS, tau=options.tau)
    contrast = PUBLIC[name](temperature=options.temperature)
    loss = options.classification_weight * classification(task.classifier(first), labels)
    loss = loss + options.contrast_weight * contrast(z1, z2, labels, *more)

    torch.testing.assert_close(loss, task(batch).loss, **CLOSE)


def test_nt_xent_is_that_of_simclr():
    task, batch = SimCLR(pairs.parts(), temperature=TemperatureOptions(0.3), seed=0), pairs.batch(0)
    task.on_epoch_start(pairs.epoch(0))
    x1, x2 = (task._view(batch, number, None) for number in (0, 1))
    z1, z2 = task.embed(x1, x2)
    torch.testing.assert_close(losses.NTXentLoss(0.3)(z1, z2), task(batch).loss, **CLOSE)


def embeddings(num=6, dim=5):
    g = torch.Generator().manual_seed(2)
    z1, z2, prototypes = (torch.randn(n, dim, generator=g) for n in (num, num, 5))
    return z1, z2, torch.tensor([0, 1, 0, 4, 2, 1])[:num], prototypes


def value(name, z1, z2, labels, prototypes, **options):
    more = [prototypes] if name in WITH_PROTOTYPES else []
    return PUBLIC[name](**options)(z1, z2, labels, *more)


@pytest.mark.parametrize("name", PUBLIC)
def test_reductions_lengths_and_views(name):
    z1, z2, labels, prototypes = embeddings()
    rows = value(name, z1, z2, labels, prototypes, reduction="none")
    assert rows.shape == (6,)
    close = torch.testing.assert_close
    close(value(name, z1, z2, labels, prototypes), rows.mean())
    close(value(name, z1, z2, labels, prototypes, reduction="sum"), rows.sum())
    close(value(name, 7 * z1, z2, labels, 3 * prototypes, reduction="none"), rows)
    close(value(name, z2, z1, labels, prototypes, reduction="none"), rows)


def test_prototypes_may_join_the_rebalanced_contrast():
    z1, z2, labels, prototypes = embeddings()
    loss = losses.RebalancedContrastiveLoss(toy.COUNTS)
    assert not torch.allclose(loss(z1, z2, labels), loss(z1, z2, labels, prototypes))


def test_a_power_of_0_is_the_supervised_contrast():
    z1, z2, labels, _ = embeddings()
    even = losses.RebalancedContrastiveLoss(toy.COUNTS, frequency_power=0.0)
    torch.testing.assert_close(
        even(z1, z2, labels), losses.SupervisedContrastiveLoss()(z1, z2, labels)
    )


def test_half_precision_is_compared_in_fp32():
    z1, z2, labels, prototypes = embeddings()
    for name in PUBLIC:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = value(name, z1.half(), z2.half(), labels, prototypes.half())
        wanted = value(
            name, z1.half().float(), z2.half().float(), labels, prototypes.half().float()
        )
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted)


Z, LABELS, PROTOTYPES = torch.ones(3, 5), torch.tensor([0, 4, 1]), torch.ones(5, 5)
BAD = [
    ((torch.ones(3), Z, LABELS), "z1: torch.float32 of shape (3,), expected floating numbers"),
    ((Z, torch.ones(3, 5, 1), LABELS), "z2: torch.float32 of shape (3, 5, 1)"),
    ((Z, torch.ones(3, 4), LABELS), "z2: shape (3, 4), expected that of z1, (3, 5)"),
    ((Z, Z.long(), LABELS), "z2: torch.int64"),
    ((Z, Z, torch.tensor([0, 1])), "labels: torch.int64 of shape (2,), expected 3 integers"),
    ((Z, Z, torch.tensor([0, -1, 1])), "labels: -1 to 1, must be in 0 ..."),
]


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize(("batch", "says"), BAD)
def test_a_bad_batch_is_refused_in_one_sentence(name, batch, says):
    with pytest.raises(ConfigError) as error:
        value(name, *batch, PROTOTYPES)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["rcl", "bcl", "bcl_rcl"])
def test_a_label_beyond_the_classes_is_refused(name):
    with pytest.raises(ConfigError, match=r"labels: 0 to 5, must be in 0 \.\.\. 4"):
        value(name, Z, Z, torch.tensor([0, 5, 1]), PROTOTYPES)


@pytest.mark.parametrize("prototypes", [torch.ones(5, 4), torch.ones(4, 5), torch.ones(5)])
def test_bad_prototypes_are_refused(prototypes):
    with pytest.raises(ConfigError, match="prototypes: "):
        losses.RebalancedContrastiveLoss(toy.COUNTS)(Z, Z, LABELS, prototypes)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: losses.NTXentLoss(0.0), "temperature: 0.0 is not a positive number"),
        (lambda: losses.SupervisedContrastiveLoss(float("nan")), "temperature: nan"),
        (lambda: losses.RebalancedContrastiveLoss([5, 0]), "no training image of class 1"),
        (lambda: losses.RebalancedContrastiveLoss([5, 1], frequency_power=float("nan")), "power"),
        (lambda: losses.NTXentLoss(0.5, reduction="avg"), "reduction: 'avg'"),
    ],
)
def test_a_bad_option_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def _on_rank(rank, z1, z2, labels, prototypes):
    own = slice(3 * rank, 3 * rank + 3)
    found = [value(n, z1[own], z2[own], labels[own], prototypes) for n in PUBLIC]
    return torch.stack([*found, losses.NTXentLoss(0.5)(z1[own], z2[own])])


@pytest.mark.distributed
def test_two_processes_give_what_one_gives():
    batch = embeddings()
    first, second = run_on_two(_on_rank, *batch)
    wanted = [value(name, *batch) for name in PUBLIC] + [losses.NTXentLoss(0.5)(*batch[:2])]
    torch.testing.assert_close((first + second) / 2, torch.stack(wanted))
