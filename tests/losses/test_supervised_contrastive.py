"""SCL, BCL, RCL and BCL+RCL: four losses that are one with other weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import gather_rows, own_rows
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.losses.balanced_contrastive import balanced_contrastive
from ssl_lt.losses.feature_compression import compressed, factors_of_weak_classes
from ssl_lt.losses.labelled_rows import LabelledRows, labelled_rows
from ssl_lt.losses.logit_adjustment import LogitAdjustment, logit_adjusted_cross_entropy
from ssl_lt.losses.rebalanced_contrastive import (
    class_averaged_rebalanced_contrastive,
    rebalanced_contrastive,
)
from ssl_lt.losses.supervised_contrastive import supervised_contrastive
from tests.distributed.pool import NUM_RANKS, run_on_two
from tests.losses.contrast_oracle import contrast as oracle

COUNTS = torch.tensor([500, 120, 40, 9, 5])
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 4])
RCL_REF = "supervised/rcl_ref.npz"


def unit(*shape, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g, dtype=dtype), dim=-1)


def two_views(labels=LABELS, dim=6, num_classes=5, dtype=torch.float64):
    """Rows, labels and prototypes; class 3 of the default labels is missing."""
    z = unit(2 * len(labels), dim, dtype=dtype)
    return z, labels.repeat(2), unit(num_classes, dim, seed=9, dtype=dtype)


def log_of(counts, dtype=torch.float64):
    return counts.to(dtype).log()


def scl(rows, prototypes, counts, t):
    return supervised_contrastive(rows, temperature=t)


def bcl(rows, prototypes, counts, t):
    return balanced_contrastive(rows, prototypes, temperature=t)


def rcl(rows, prototypes, counts, t):
    return rebalanced_contrastive(rows, log_of(counts, rows.keys.dtype), temperature=t)


def bcl_rcl(rows, prototypes, counts, t):
    return class_averaged_rebalanced_contrastive(
        rows.with_prototypes(prototypes), log_of(counts, rows.keys.dtype), temperature=t
    )


def scl_prototypes(rows, prototypes, counts, t):
    return supervised_contrastive(rows.with_prototypes(prototypes), temperature=t)


def rcl_prototypes(rows, prototypes, counts, t):
    return rebalanced_contrastive(rows.with_prototypes(prototypes), log_of(counts), temperature=t)


def rcl_average(rows, prototypes, counts, t):
    return class_averaged_rebalanced_contrastive(rows, log_of(counts), temperature=t)


FOUR = {"scl": scl, "bcl": bcl, "rcl": rcl, "bcl_rcl": bcl_rcl}
GOLDEN = {
    "scl": scl,
    "scl_proto": scl_prototypes,
    "bcl": bcl,
    "rcl_eq4": rcl,
    "rcl_eq4_proto": rcl_prototypes,
    "rcl_avg_noproto": rcl_average,
    "bcl_rcl_eq5": bcl_rcl,
}


@pytest.mark.parametrize("t", [0.07, 0.1, 1.0])
@pytest.mark.parametrize("name", FOUR)
def test_equals_the_equation(name, t):
    z, y, prototypes = two_views()
    got = FOUR[name](labelled_rows(z, y), prototypes, COUNTS, t)
    want = oracle(
        z,
        y,
        t,
        counts=COUNTS if "rcl" in name else None,
        prototypes=prototypes if "bcl" in name else None,
        average="bcl" in name,
    )
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(golden, name, case):
    d = golden(RCL_REF)
    z, prototypes = (torch.tensor(d[f"c{case}_{k}"]).requires_grad_() for k in ("Z", "protos"))
    rows = labelled_rows(z, torch.tensor(d[f"c{case}_Zlabels"]))
    counts, t = torch.tensor(d[f"c{case}_cls_num"]), float(d[f"c{case}_tau"])
    losses = GOLDEN[name](rows, prototypes, counts, t)
    np.testing.assert_allclose(losses.detach(), d[f"c{case}_{name}_per_anchor"], rtol=1e-10)
    if f"c{case}_{name}_loss_mp" in d.files:
        exact = float(str(d[f"c{case}_{name}_loss_mp"]))
        np.testing.assert_allclose(losses.mean().item(), exact, rtol=1e-12)
    grads = torch.autograd.grad(losses.mean(), (z, prototypes), materialize_grads=True)
    for grad, what in zip(grads, ("Z", "protos"), strict=True):
        np.testing.assert_allclose(grad, d[f"c{case}_{name}_grad_{what}"], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("case", range(6))
def test_golden_of_the_released_bcl(golden, case):
    d = golden("supervised/bcl.npz")
    views, centers = (
        torch.tensor(d[f"c{case}_{k}"]).requires_grad_() for k in ("features", "centers")
    )
    z = torch.cat(views.unbind(1))
    rows = labelled_rows(z, torch.tensor(d[f"c{case}_labels"]).repeat(2))
    loss = balanced_contrastive(rows, centers, temperature=float(d[f"c{case}_tau"])).mean()
    np.testing.assert_allclose(loss.item(), d[f"c{case}_loss"], rtol=1e-10)
    grads = torch.autograd.grad(loss, (views, centers))
    np.testing.assert_allclose(grads[0], d[f"c{case}_grad_features"], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(grads[1], d[f"c{case}_grad_centers"], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("case", range(6))
def test_golden_of_the_released_supcon(golden, case):
    d = golden("supervised/supcon.npz")
    views = torch.tensor(d[f"c{case}_features"]).requires_grad_()
    y = torch.tensor(d[f"c{case}_labels"])
    num, t = views.shape[1], float(d[f"c{case}_tau"])
    z, labels = torch.cat(views.unbind(1)), y.repeat(num)
    rows = labelled_rows(z, labels)
    if str(d[f"c{case}_mode"]) == "one":  # only view 1 has anchors
        own = torch.arange(len(y))
        rows = LabelledRows(z[: len(y)], y, z, labels, own)
    # Theirs is multiplied by a constant.
    loss = supervised_contrastive(rows, temperature=t).mean() * t / float(d[f"c{case}_base_tau"])
    np.testing.assert_allclose(loss.item(), d[f"c{case}_loss"], rtol=1e-10, atol=1e-15)
    (grad,) = torch.autograd.grad(loss, views)
    np.testing.assert_allclose(grad, d[f"c{case}_grad"], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["rcl_eq4", "bcl_rcl_eq5"])
@pytest.mark.parametrize("factor", ["0.005", "0.5", "1.5"])
@pytest.mark.parametrize("option", ["A", "B"])
def test_golden_compression(golden, name, factor, option):
    d = golden(RCL_REF)
    z = torch.tensor(d["c1_Z"]).requires_grad_()
    prototypes, counts = torch.tensor(d["c1_protos"]), torch.tensor(d["c1_cls_num"])
    factors, t = torch.tensor(d[f"comp_s{factor}_factor"]), float(d["c1_tau"])
    if option == "B":
        prototypes = prototypes * factors[:, None]
    rows = compressed(labelled_rows(z, torch.tensor(d["c1_Zlabels"])), factors)
    loss = GOLDEN[name](rows, prototypes, counts, t).mean()
    stem = f"comp_s{factor}_{name}_{option}"
    np.testing.assert_allclose(loss.item(), d[f"{stem}_loss"], rtol=1e-10)
    (grad,) = torch.autograd.grad(loss, z)
    np.testing.assert_allclose(grad, d[f"{stem}_grad_Z"], rtol=1e-10, atol=1e-14)


def test_golden_total(golden):
    d = golden(RCL_REF)
    rows = labelled_rows(torch.tensor(d["c1_Z"]), torch.tensor(d["c1_Zlabels"]))
    prototypes, counts = torch.tensor(d["c1_protos"]), torch.tensor(d["c1_cls_num"])
    options = LOSSES["rcl"].options()
    # The golden total has the defaults: tau 1.3, 2 LA + 1 contrast.
    assert options.tau == float(d["total_la_tau"])
    weights = options.classification_weight, options.contrast_weight
    assert weights == (float(d["total_lambda"]), float(d["total_mu"]))
    logits, labels = torch.tensor(d["total_logits"]), torch.tensor(d["c1_labels"])
    la = LogitAdjustment(counts, options)(logits, labels).mean()
    for name, loss in (("total_rcl", rcl), ("total_bcl_rcl", bcl_rcl)):
        contrast = loss(rows, prototypes, counts, float(d["c1_tau"])).mean()
        total = weights[0] * la + weights[1] * contrast
        np.testing.assert_allclose(total.item(), d[name], rtol=1e-6)  # the prior is float32


def test_golden_of_the_released_bcl_with_its_classification(golden):
    d = golden("supervised/bcl.npz")
    features, weight, views = (
        torch.tensor(d[f"comb_{k}"]).requires_grad_() for k in ("feat", "W", "views")
    )
    labels, counts = torch.tensor(d["comb_labels"]), torch.tensor(d["comb_cls_num"])
    # Their columns are classes; A stands for the prototypes' MLP.
    cosines = F.normalize(features, dim=1) @ F.normalize(weight, dim=0)
    centers = F.normalize(weight.T @ torch.tensor(d["comb_A"]), dim=1)
    prior = (counts.double() / counts.sum()).log()
    ce = logit_adjusted_cross_entropy(30 * cosines, labels, prior, tau=1.0).mean()
    rows = labelled_rows(torch.cat(views.unbind(1)), labels.repeat(2))
    contrast = bcl(rows, centers, counts, 0.1).mean()
    options = LOSSES["bcl"].options()
    total = options.classification_weight * ce + options.contrast_weight * contrast
    np.testing.assert_allclose(total.item(), d["comb_total"], rtol=1e-10)
    grads = torch.autograd.grad(total, (features, weight, views))
    for grad, name in zip(grads, ("feat", "W", "views"), strict=True):
        np.testing.assert_allclose(grad, d[f"comb_grad_{name}"], rtol=1e-9, atol=1e-13)


def test_fcc_golden(golden):
    d = golden("supervised/fcc.npz")
    rows = labelled_rows(torch.tensor(d["features"]), torch.tensor(d["labels"]))
    for gamma in ("0.1", "0.5", "1.0"):
        got = compressed(rows, torch.tensor(d[f"tau_g{gamma}"]))
        np.testing.assert_allclose(got.anchors, d[f"out_g{gamma}"], rtol=1e-6)
        assert torch.equal(got.anchors, got.keys)


def margin_form(z, y, t, log_n, *, keys, key_labels, log_w):
    """Eq. 6: log-frequencies are added to the similarities, positives included."""
    out = []
    for i in range(len(z)):
        others = torch.arange(len(keys)) != i
        s = keys @ z[i] / t + log_n[key_labels]
        total = torch.logsumexp((s - log_w[i])[others], dim=0)
        out.append((total - s[others & (key_labels == y[i])]).mean())
    return torch.stack(out)


def pairwise_form(z, y, t, log_n, *, keys, key_labels, log_w):
    """Eq. 7: each positive against each other key, at a margin of t log(n_k / n_y)."""
    out = []
    for i in range(len(z)):
        s = keys @ z[i] / t
        losses = []
        for p in range(len(keys)):
            if p == i or key_labels[p] != y[i]:
                continue
            rest = torch.arange(len(keys))
            rest = rest[(rest != i) & (rest != p)]
            gaps = s[rest] - s[p] + log_n[key_labels[rest]] - log_n[y[i]] - log_w[i, rest]
            losses.append(torch.log((-log_w[i, p]).exp() + gaps.exp().sum()))
        out.append(torch.stack(losses).mean())
    return torch.stack(out)


@pytest.mark.parametrize("form", [margin_form, pairwise_form])
@pytest.mark.parametrize("name", ["rcl", "bcl_rcl"])
def test_margin_forms(form, name):
    z, y, prototypes = two_views()
    rows = labelled_rows(z, y)
    got = FOUR[name](rows, prototypes, COUNTS, 0.1)
    if name == "bcl_rcl":
        rows = rows.with_prototypes(prototypes)
        size = torch.bincount(rows.key_labels, minlength=5)
        log_w = (size[rows.key_labels] - (y[:, None] == rows.key_labels).long()).double().log()
    else:
        log_w = torch.zeros(len(z), len(rows.keys), dtype=torch.float64)
    want = form(z, y, 0.1, log_of(COUNTS), keys=rows.keys, key_labels=rows.key_labels, log_w=log_w)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_uniform_counts_reduce_to_the_base():
    z, y, prototypes = two_views()
    rows, same = labelled_rows(z, y), torch.full((5,), 37)
    pairs = ((rcl, scl), (bcl_rcl, bcl))
    for loss, base in pairs:
        got, want = (f(rows, prototypes, same, 0.1) for f in (loss, base))
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(loss(rows, prototypes, COUNTS, 0.1), want)


@pytest.mark.parametrize("loss", [rcl, bcl_rcl])
def test_scaling_all_counts_changes_nothing(loss):
    z, y, prototypes = two_views()
    rows = labelled_rows(z, y)
    torch.testing.assert_close(
        loss(rows, prototypes, 1000 * COUNTS, 0.1),
        loss(rows, prototypes, COUNTS, 0.1),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", FOUR)
def test_permuting_the_batch_permutes_the_losses(name):
    z, y, prototypes = two_views()
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(3))
    base = FOUR[name](labelled_rows(z, y), prototypes, COUNTS, 0.1)
    moved = FOUR[name](labelled_rows(z[order], y[order]), prototypes, COUNTS, 0.1)
    torch.testing.assert_close(moved, base[order])


@pytest.mark.parametrize("name", FOUR)
def test_a_rare_class_is_pushed_from_a_frequent_one_by_the_counts(name):
    """The gradient on a head key, of a tail anchor: larger with counts than without."""
    z, y, prototypes = two_views(torch.tensor([0, 4]))
    z.requires_grad_()
    counts = torch.tensor([500, 120, 40, 9, 5])

    def push(counts):
        losses = FOUR[name](labelled_rows(z, y), prototypes, counts, 0.5)
        return torch.autograd.grad(losses[1], z)[0][0].norm()

    with_counts, without = push(counts), push(torch.ones(5))
    if "rcl" in name:
        assert with_counts > 1.05 * without
    else:
        assert with_counts == without


BATCHES = {
    "a class alone": torch.tensor([0, 0, 3]),
    "one class only": torch.tensor([2, 2, 2]),
    "classes missing": torch.tensor([0, 4]),
    "batch of one": torch.tensor([1]),
}


@pytest.mark.parametrize("t", [0.01, 0.1])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", FOUR)
def test_finite_for_any_batch(name, batch, t):
    z, y, prototypes = two_views(BATCHES[batch], dtype=torch.float32)
    z.requires_grad_(), prototypes.requires_grad_()
    losses = FOUR[name](labelled_rows(z, y), prototypes, COUNTS, t)
    grads = torch.autograd.grad(losses.mean(), (z, prototypes), materialize_grads=True)
    assert losses.shape == (len(z),)
    assert all(torch.isfinite(x).all() for x in (losses, *grads))


@pytest.mark.parametrize("name", ["scl", "rcl"])
def test_one_view_without_positives_costs_nothing(name):
    z = unit(4, 5).requires_grad_()
    y = torch.tensor([0, 1, 2, 2])
    losses = FOUR[name](labelled_rows(z, y), None, COUNTS, 0.1)
    assert losses[:2].tolist() == [0, 0]
    assert (losses[2:] > 0).all()
    (grad,) = torch.autograd.grad(losses.sum(), z)
    assert torch.isfinite(grad).all()
    alone = FOUR[name](labelled_rows(z[:1], y[:1]), None, COUNTS, 0.1)
    assert alone.tolist() == [0]
    assert torch.equal(torch.autograd.grad(alone.sum(), z)[0], torch.zeros_like(z))


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("name", FOUR)
def test_no_tensor_is_larger_than_anchors_times_keys(name):
    num_classes = 50
    z, y, prototypes = two_views(torch.arange(64) % num_classes, dim=4, num_classes=num_classes)
    z.requires_grad_(), prototypes.requires_grad_()
    with LargestTensor() as seen:
        losses = FOUR[name](labelled_rows(z, y), prototypes, torch.arange(1, num_classes + 1), 0.1)
        losses.mean().backward()
    most = len(z) * (len(z) + num_classes)
    assert 0 < seen.largest <= most < len(z) * len(z) * num_classes / 30


def test_a_larger_one_would_be_seen_in_either_pass():
    z, y, _ = two_views()
    z.requires_grad_()
    cube = len(z) * len(z) * 5
    with LargestTensor() as seen:
        masked = (z @ z.T)[:, :, None] * F.one_hot(y, 5)
    assert seen.largest == cube
    with LargestTensor() as seen:
        masked.square().sum().backward()
    assert seen.largest == cube


def test_more_keys_than_anchors():
    z, y, prototypes = two_views()
    own = torch.tensor([1, 4, 9])
    rows = LabelledRows(z[own], y[own], z, y, own)
    for loss in FOUR.values():
        whole = loss(labelled_rows(z, y), prototypes, COUNTS, 0.1)
        torch.testing.assert_close(loss(rows, prototypes, COUNTS, 0.1), whole[own])


def _rank_losses(rank, z, y, prototypes):
    num = len(z) // NUM_RANKS
    part = slice(rank * num, (rank + 1) * num)
    local = z[part].clone().requires_grad_()
    keys = gather_rows(local)
    rows = LabelledRows(local, y[part], keys, y, own_rows(num, device=z.device))
    out = {}
    for name, loss in FOUR.items():
        losses = loss(rows, prototypes, COUNTS, 0.1)
        (grad,) = torch.autograd.grad(losses.mean(), local, retain_graph=True)
        out[name] = (losses.detach(), grad)
    return out


@pytest.mark.distributed
def test_two_processes_equal_one():
    z, y, prototypes = two_views()
    ranks = run_on_two(_rank_losses, z, y, prototypes)
    z.requires_grad_()
    for name, loss in FOUR.items():
        losses = loss(labelled_rows(z, y), prototypes, COUNTS, 0.1)
        (grad,) = torch.autograd.grad(losses.mean(), z)
        torch.testing.assert_close(torch.cat([r[name][0] for r in ranks]), losses.detach())
        torch.testing.assert_close(torch.cat([r[name][1] for r in ranks]) / NUM_RANKS, grad)


@pytest.mark.parametrize("name", FOUR)
def test_module_equals_the_function(name):
    z, y, prototypes = two_views(dtype=torch.float32)
    rows, entry = labelled_rows(z, y), LOSSES[name]
    module = entry.contrast(COUNTS, entry.options())
    assert module.uses_prototypes == ("bcl" in name)
    got = module(rows, prototypes if module.uses_prototypes else None)
    torch.testing.assert_close(got, FOUR[name](rows, prototypes, COUNTS, 0.1), rtol=1e-5, atol=1e-5)
    assert not module.state_dict()


def test_rcl_with_averages_and_prototypes_is_bcl_rcl():
    z, y, prototypes = two_views(dtype=torch.float32)
    options = LOSSES["rcl"].options(class_average=True, use_prototypes=True)
    both = LOSSES["rcl"].contrast(COUNTS, options)(labelled_rows(z, y), prototypes)
    want = LOSSES["bcl_rcl"].contrast(COUNTS, LOSSES["bcl_rcl"].options())
    assert torch.equal(both, want(labelled_rows(z, y), prototypes))


@pytest.mark.parametrize(("name", "base"), [("rcl", "scl"), ("bcl_rcl", "bcl")])
def test_power_0_of_the_counts_is_the_base(name, base):
    z, y, prototypes = two_views(dtype=torch.float32)
    rows = labelled_rows(z, y)
    found = (
        LOSSES[n].contrast(COUNTS, LOSSES[n].options(**o))
        for n, o in ((name, {"frequency_power": 0.0}), (base, {}))
    )
    got, want = (loss(rows, prototypes if loss.uses_prototypes else None) for loss in found)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["rcl", "bcl_rcl"])
def test_a_class_without_images_has_no_frequency(name):
    with pytest.raises(ConfigError, match="class 1"):
        LOSSES[name].contrast(torch.tensor([4, 0, 2]), LOSSES[name].options())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("classification_weight", -1.0),
        ("contrast_weight", float("inf")),
        ("compression", -0.1),
        ("compression_start", 1.5),
        ("hidden_dim", 0),
        ("output_dim", 0),
    ],
)
def test_bad_options(field, value):
    with pytest.raises(ConfigError, match="--" + field.replace("_", "-")):
        LOSSES["rcl"].options(**{field: value})


def test_compression_by_ones_changes_nothing_and_needs_no_normalisation_after_it():
    z, y, _ = two_views()
    rows = labelled_rows(z, y)
    torch.testing.assert_close(compressed(rows, torch.ones(5, dtype=z.dtype)).keys, z)
    half = compressed(rows, torch.full((5,), 0.5, dtype=z.dtype))
    # Both sides of a similarity shrink: a quarter, like four times the temperature.
    torch.testing.assert_close(scl(half, None, None, 0.1), scl(rows, None, None, 0.4))


def test_weak_classes_are_those_below_the_mean():
    accuracy = torch.tensor([0.9, 0.5, 0.6, 0.0])
    got = factors_of_weak_classes(accuracy, factor=0.25)
    assert got.tolist() == [1.0, 1.0, 1.0, 0.25]
    unknown = torch.tensor([0.2, 0.8, float("nan")])
    assert factors_of_weak_classes(unknown, factor=0.25).tolist() == [0.25, 1, 1]
    assert factors_of_weak_classes(torch.full((3,), 0.5), factor=0.1).tolist() == [1, 1, 1]
