import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

from ssl_lt.models.batch_norm import (
    MergedBatchNorm,
    SynchronisedBatchNorm,
    batch_norms,
    synchronised,
)
from tests.distributed.pool import NUM_RANKS, run_on_two

SHAPES = {"1d": (12, 5), "2d": (12, 5, 3, 4)}


def layer(kind, **kwargs):
    torch.manual_seed(0)
    norm = {"1d": nn.BatchNorm1d, "2d": nn.BatchNorm2d}[kind](5, dtype=torch.float64, **kwargs)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def rows(kind):
    g = torch.Generator().manual_seed(3)
    return torch.randn(SHAPES[kind], generator=g, dtype=torch.float64) * 3 + 100


def step(norm, x, target):
    """Two training steps' output, gradients and running statistics, and an evaluation."""
    x = x.clone().requires_grad_()
    norm.train()
    norm(x.detach() - 1)
    out = norm(x)
    (out * target).sum().backward()
    grads = [p.grad.clone() for p in norm.parameters()]
    return {
        "out": out.detach(),
        "x": x.grad,
        "grads": grads,
        "buffers": [b.clone() for b in norm.buffers()],
        "eval": norm.eval()(x).detach(),
    }


CASES = [
    ("1d", {}),
    ("2d", {}),
    ("2d", {"momentum": None}),
    ("2d", {"affine": False}),
    ("2d", {"track_running_stats": False}),
]


def target_of(x):
    return torch.sin(torch.arange(x.numel(), dtype=x.dtype)).view_as(x)


def _rank_steps(rank, cut):
    out = []
    for kind, kwargs in CASES:
        x = rows(kind)
        part = slice(0, cut) if rank == 0 else slice(cut, None)
        out.append(step(synchronised(layer(kind, **kwargs)), x[part], target_of(x)[part]))
    return out


def _rank_details(rank):
    torch.manual_seed(rank)
    norm = synchronised(nn.BatchNorm2d(4)).train()
    x = torch.randn(4, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    out = norm(x)
    return {
        "channels_last": out.is_contiguous(memory_format=torch.channels_last),
        "half": norm(x.to(torch.bfloat16)).dtype == torch.bfloat16,
        "far": (norm(x + 4096) - out).abs().max().item(),
        "eval": torch.equal(
            norm.eval()(x),
            F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias),
        ),
    }


def _rank_all(rank):
    return {"even": _rank_steps(rank, 6), "odd": _rank_steps(rank, 4), **_rank_details(rank)}


@pytest.fixture(scope="module")
def ranks():
    return run_on_two(_rank_all)


@pytest.mark.distributed
@pytest.mark.parametrize("cut", ["even", "odd"])
def test_two_processes_equal_one(ranks, cut):
    for (kind, kwargs), *got in zip(CASES, *[r[cut] for r in ranks], strict=True):
        x = rows(kind)
        want = step(layer(kind, **kwargs), x, target_of(x))
        # Without running statistics an evaluation takes those of its own rows.
        names = ["out", "x", "eval"] if kwargs.get("track_running_stats", True) else ["out", "x"]
        for name in names:
            torch.testing.assert_close(torch.cat([g[name] for g in got]), want[name])
        for k, grad in enumerate(want["grads"]):
            torch.testing.assert_close(sum(g["grads"][k] for g in got), grad)
        for rank in range(NUM_RANKS):
            torch.testing.assert_close(got[rank]["buffers"], want["buffers"])


@pytest.mark.distributed
def test_layout_precision_and_evaluation_on_two_processes(ranks):
    for details in ranks:
        assert details["channels_last"]
        assert details["half"]
        assert details["eval"]
        # A float32 sum of squares beside a mean of 4096 would have lost the variance.
        assert details["far"] < 0.01


@pytest.mark.parametrize(("kind", "kwargs"), CASES)
def test_with_one_process_it_is_the_plain_layer_to_the_bit(kind, kwargs):
    x = rows(kind)
    target = target_of(x)
    ours = step(synchronised(layer(kind, **kwargs)), x, target)
    torch.testing.assert_close(ours, step(layer(kind, **kwargs), x, target), rtol=0, atol=0)


def test_conversion_keeps_keys_tensors_and_shared_layers():
    shared = nn.BatchNorm1d(3)
    module = nn.Sequential(nn.Linear(3, 3), shared, nn.ReLU(), shared, nn.LayerNorm(3))
    before = dict(module.state_dict(keep_vars=True))
    assert synchronised(module) is module
    after = dict(module.state_dict(keep_vars=True))
    assert list(before) == list(after)
    assert all(before[k] is after[k] for k in before)
    assert module[1] is module[3]
    assert [type(m) for _, m in batch_norms(module)] == [SynchronisedBatchNorm]
    assert isinstance(module[4], nn.LayerNorm)


def test_timm_layers_keep_their_activation():
    x = torch.randn(4, 3, 2, 2)
    want = BatchNormAct2d(3)(x)
    torch.testing.assert_close(synchronised(BatchNormAct2d(3))(x), want)
    assert want.min() == 0


def test_on_cuda_it_is_torchs_layer_with_the_same_tensors():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), BatchNormAct2d(4)).eval()
    x = torch.randn(4, 3, 2, 2)
    want, before = module(x), dict(module.state_dict(keep_vars=True))
    assert synchronised(module, device=torch.device("cuda")) is module
    after = dict(module.state_dict(keep_vars=True))
    assert list(before) == list(after)
    assert all(before[k] is after[k] for k in before)
    assert [isinstance(m, nn.SyncBatchNorm) for _, m in batch_norms(module)] == [True, True]
    torch.testing.assert_close(module(x), want, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gradients_are_about_as_precise_as_the_plain_layers(dtype):
    g = torch.Generator().manual_seed(1)
    x = (torch.randn(64, 16, 8, 8, generator=g) * 3 + 5).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    dy = torch.randn(x.shape, generator=g).to(dtype)
    weight, bias = torch.randn(2, 16, generator=g)

    def gradients(normalise, wider):
        inputs = [t.to(wider(t)).clone().requires_grad_() for t in (x, weight, bias)]
        normalise(*inputs).backward(dy.to(inputs[0].dtype))
        return [t.grad.double() for t in inputs]

    def plain(x, weight, bias):
        return F.batch_norm(x, None, None, weight, bias, True, 0.1, 1e-5)

    def merged(x, weight, bias):
        return MergedBatchNorm.apply(x, weight, bias, 1e-5)[0]

    exact = gradients(plain, lambda t: torch.float64)
    found = [gradients(normalise, lambda t: t.dtype) for normalise in (plain, merged)]
    for want, theirs, ours in zip(exact, *found, strict=True):
        scale = want.square().mean().sqrt()
        error, allowed = ((t - want).square().mean().sqrt() / scale for t in (ours, theirs))
        assert error <= 2 * allowed + 1e-6


def test_channels_that_do_not_vary_stay_finite():
    x = torch.full((8, 3, 2, 2), 7.0, requires_grad=True)
    out, mean, var, total = MergedBatchNorm.apply(x, None, None, 1e-5)
    out.sum().backward()
    assert out.abs().max() < 1e-2
    assert mean.tolist() == [7.0] * 3
    assert var.abs().max() < 1e-9
    assert int(total) == 32
    assert x.grad.isfinite().all()
