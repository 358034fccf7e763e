"""The public losses of logits give what `finetune.py` computes, and refuse what none can use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ssl_lt import losses
from ssl_lt.core.errors import ConfigError
from ssl_lt.finetune.registry import LOSSES
from tests.losses.logits import batch

COUNTS = [70, 20, 6, 2]
PUBLIC = {
    "ce": losses.CrossEntropyLoss,
    "la": losses.LogitAdjustedLoss,
    "balanced_softmax": losses.BalancedSoftmaxLoss,
    "pairwise": losses.PairwiseMarginLoss,
    "vs": losses.VectorScalingLoss,
    "focal": losses.FocalLoss,
    "cb_softmax": losses.ClassBalancedSoftmaxLoss,
    "cb_sigmoid": losses.ClassBalancedSigmoidLoss,
    "cb_focal": losses.ClassBalancedFocalLoss,
    "ldam": losses.LDAMLoss,
    "ldam_hinge": losses.LDAMHingeLoss,
}
WITH_COUNTS = [name for name in PUBLIC if name not in ("ce", "focal")]


def public(name, **options):
    return PUBLIC[name](*([COUNTS] if name in WITH_COUNTS else []), **options)


def test_every_loss_of_logits_is_there():
    assert set(PUBLIC) == {name for name, entry in LOSSES.items() if entry.is_classification}
    assert {kind.__name__ for kind in PUBLIC.values()} <= set(losses.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_it_is_the_loss_of_the_registry_reduced(name):
    entry, (logits, labels) = LOSSES[name], batch()
    wanted = entry.build(torch.tensor(COUNTS), entry.options()).double()(logits, labels)
    torch.testing.assert_close(public(name, reduction="none").double()(logits, labels), wanted)
    total = public(name, reduction="sum").double()(logits, labels)
    torch.testing.assert_close(total, wanted.sum())
    mean = public(name).double()(logits, labels)
    torch.testing.assert_close(mean, wanted.mean())
    mean.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("la", {"tau": 1.7}),
        ("focal", {"gamma": 0.5}),
        ("pairwise", {"member": "balanced"}),
        ("vs", {"tau": 0.5, "gamma": 0.1}),
        ("cb_focal", {"beta": 0.99, "gamma": 2.0}),
        ("ldam", {"max_margin": 0.3, "scale": 10.0}),
    ],
)
def test_options_are_those_of_the_flags(name, options):
    entry, (logits, labels) = LOSSES[name], batch()
    wanted = entry.build(torch.tensor(COUNTS), entry.options(**options)).double()
    found = public(name, reduction="none", **options).double()
    assert torch.equal(found(logits, labels), wanted(logits, labels))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_half_precision_network_has_its_loss_in_fp32(name):
    logits, labels = batch()
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = public(name)(half, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, public(name)(half.float(), labels))


@pytest.mark.parametrize(
    "counts",
    [torch.tensor(COUNTS), np.array(COUNTS), np.array(COUNTS, np.int32), np.array(COUNTS, float)],
)
def test_counts_may_be_anything_with_numbers(counts):
    logits, labels = batch()
    found = losses.LogitAdjustedLoss(counts)(logits.float(), labels.int())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, public("la")(logits.float(), labels))


BAD_COUNTS = [
    ([70, float("nan"), 6, 2], "counts: nan of class 1 is not finite"),
    ([70, float("inf"), 6, 2], "counts: inf of class 1 is not finite"),
    ([70, 0, 6, 2], "no training image of class 1"),
    ([70, -3, 6, 2], "no training image of class 1"),
    ([[70, 20], [6, 2]], "counts: shape (2, 2), expected one number for each of 2 classes"),
    ([], "counts: shape (0,)"),
    (["a", "b"], "counts: no numbers of training images"),
]


@pytest.mark.parametrize("name", WITH_COUNTS)
@pytest.mark.parametrize(("counts", "says"), BAD_COUNTS)
def test_bad_counts_are_refused_in_one_sentence(name, counts, says):
    with pytest.raises(ConfigError) as error:
        PUBLIC[name](counts)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


LOGITS, LABELS = torch.zeros(3, 4), torch.tensor([0, 3, 1])
BAD_BATCHES = [
    (torch.zeros(3, 5), LABELS, "logits: 5 classes, but the counts are of 4 classes"),
    (torch.zeros(3), LABELS, "logits: torch.float32 of shape (3,), expected floating numbers"),
    (torch.zeros(3, 4, dtype=torch.int64), LABELS, "logits: torch.int64"),
    (LOGITS, torch.tensor([0, 4, 1]), "labels: 0 to 4, must be in 0 ... 3"),
    (LOGITS, torch.tensor([0, -1, 1]), "labels: -1 to 1, must be in 0 ... 3"),
    (LOGITS, torch.tensor([0, 1]), "labels: torch.int64 of shape (2,), expected 3 integers"),
    (LOGITS, torch.zeros(3), "labels: torch.float32 of shape (3,)"),
    (LOGITS, torch.zeros(3, 4), "labels: torch.float32 of shape (3, 4)"),
]


@pytest.mark.parametrize("name", WITH_COUNTS)
@pytest.mark.parametrize(("logits", "labels", "says"), BAD_BATCHES)
def test_a_bad_batch_is_refused_in_one_sentence(name, logits, labels, says):
    with pytest.raises(ConfigError) as error:
        public(name)(logits, labels)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: losses.LogitAdjustedLoss(COUNTS, tau=-1), "tau: -1"),
        (lambda: losses.LogitAdjustedLoss(COUNTS, reduction="avg"), "reduction: 'avg', must be"),
        (lambda: losses.FocalLoss(float("nan")), "gamma: nan"),
        (lambda: losses.ClassBalancedSoftmaxLoss(COUNTS, 1.0), "beta: 1.0"),
        (lambda: losses.PairwiseMarginLoss(COUNTS, "both"), "member: 'both', must be la or"),
    ],
)
def test_a_bad_option_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_nothing_that_follows_from_the_data_is_saved_and_all_of_it_moves():
    for name in PUBLIC:
        loss = public(name)
        assert loss.state_dict() == {}
        assert all(buffer.device.type == "meta" for buffer in loss.to("meta").buffers())


def test_it_compiles_as_one_graph():
    model, loss = nn.Linear(6, 4), losses.LogitAdjustedLoss(COUNTS)
    step = torch.compile(lambda x, y: loss(model(x), y), backend="eager", fullgraph=True)
    x, y = torch.randn(3, 6), torch.tensor([0, 1, 2])
    torch.testing.assert_close(step(x, y), loss(model(x), y))
