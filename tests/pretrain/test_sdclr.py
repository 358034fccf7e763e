import copy

import numpy as np
import pytest
import torch
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.pruned_twin import magnitude_mask, prunable_weights
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.sdclr import SDCLR, SDCLROptions
from ssl_lt.pretrain.temperature import TemperatureOptions
from tests.pretrain import toy


def build(parts=None, ratio=0.6):
    temperature, options = TemperatureOptions(), SDCLROptions(prune_ratio=ratio)
    return SDCLR(parts or toy.parts(), temperature=temperature, options=options, seed=4)


class GoldenBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.b1 = nn.BatchNorm2d(4)
        self.c2 = nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=False)
        self.b2 = nn.BatchNorm2d(6)

    def forward(self, x):
        x = self.b1(self.c1(x)).relu()
        return self.b2(self.c2(x)).relu().mean(dim=(2, 3))


class GoldenProjector(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 6)
        self.bn1 = nn.BatchNorm1d(6)
        self.fc2 = nn.Linear(6, 5, bias=False)
        self.bn2 = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.bn2(self.fc2(self.bn1(self.fc1(x)).relu()))


# Our modules, and what the golden file calls their parameters.
LAYERS = {
    "backbone.c1": "c1",
    "backbone.c2": "c2",
    "projector.fc1": "fc.fc1",
    "projector.fc2": "fc.fc2",
    "backbone.b1": "b1.bn_list.0",
    "backbone.b2": "b2.bn_list.0",
    "projector.bn1": "fc.bn1.bn_list.0",
    "projector.bn2": "fc.bn2.bn_list.0",
    "twin.backbone_norms.0": "b1.bn_list.1",
    "twin.backbone_norms.1": "b2.bn_list.1",
    "twin.projector_norms.0": "fc.bn1.bn_list.1",
    "twin.projector_norms.1": "fc.bn2.bn_list.1",
}


def test_golden_step(golden):
    d = golden("pretraining/sdclr_step_proj2.npz")
    parts = TwoViewParts(
        GoldenBackbone().double(), GoldenProjector().double(), toy.view, (), num_samples=6
    )
    temperature = TemperatureOptions(float(d["t"]))
    options = SDCLROptions(prune_ratio=float(d["prune_percent"]))
    task = SDCLR(parts, temperature=temperature, options=options, seed=0)
    tensors = task.state_dict(keep_vars=True)
    named = {
        f"{ours}.{leaf}": f"{theirs}.{leaf}"
        for ours, theirs in LAYERS.items()
        for leaf in ("weight", "bias", "running_mean", "running_var")
        if f"{ours}.{leaf}" in tensors
    }
    assert set(named) == {k for k in tensors if not k.endswith("num_batches_tracked")}
    for ours, theirs in named.items():
        kind = "initbuf" if "running" in ours else "init"
        tensors[ours].data.copy_(torch.tensor(d[f"{kind}.{theirs}"]))

    task.on_epoch_start(toy.epoch(0))
    want_mask = np.concatenate([d["mask.c1"].ravel(), d["mask.c2"].ravel()]).astype(bool)
    np.testing.assert_array_equal(task.pruning.tables["mask"], want_mask)

    sgd = torch.optim.SGD(
        task.parameters(),
        lr=float(d["lr"]),
        momentum=float(d["momentum"]),
        weight_decay=float(d["weight_decay"]),
    )
    before = {k: tensors[k].detach().clone() for k in named}
    z1, z2 = task.embed(torch.tensor(d["x1"]), torch.tensor(d["x2"]))
    loss = task.pair_losses(z1, z2).mean()
    loss.backward()
    sgd.step()
    np.testing.assert_allclose(z1.detach(), d["z_full"], rtol=1e-10)
    np.testing.assert_allclose(z2.detach(), d["z_pruned"], rtol=1e-10)
    np.testing.assert_allclose(loss.item(), d["loss"], rtol=1e-10)
    for ours, theirs in named.items():
        got = tensors[ours].detach()
        if "running" in ours:
            if ours.startswith("twin"):
                # The release updates this branch's statistics a second time with the same batch.
                of_batch = (got - 0.9 * before[ours]) / 0.1
                got = 0.9 * got + 0.1 * of_batch
            np.testing.assert_allclose(got, d[f"afterbuf.{theirs}"], rtol=1e-10, atol=1e-13)
        else:
            grad = tensors[ours].grad
            np.testing.assert_allclose(grad, d[f"grad.{theirs}"], rtol=1e-8, atol=1e-12)
            np.testing.assert_allclose(got, d[f"after.{theirs}"], rtol=1e-8, atol=1e-12)


def test_the_mask_changes_with_the_epoch_and_not_within():
    task = build()
    sgd = toy.optimizer(task)
    masks = []
    for number in range(2):
        task.on_epoch_start(toy.epoch(number))
        at_start = magnitude_mask(list(prunable_weights(task.backbone).values()), prune_ratio=0.6)
        for step in range(3):
            toy.train(task, [step], sgd=sgd)
            assert torch.equal(task.pruning.tables["mask"], at_start)
        masks.append(at_start)
    assert not torch.equal(*masks)
    assert masks[0].dtype == torch.bool


def test_a_run_resumed_inside_an_epoch_goes_on_with_its_mask():
    straight = build()
    sgd = toy.optimizer(straight)
    straight.on_epoch_start(toy.epoch(0))
    toy.train(straight, range(3), sgd=sgd)
    straight.on_epoch_start(toy.epoch(1))
    toy.train(straight, range(3, 6), sgd=sgd)
    saved = toy.state(straight)
    sgd_state = copy.deepcopy(sgd.state_dict())
    rest = toy.train(straight, range(6, 9), sgd=sgd)

    resumed = build(toy.parts(seed=9))
    resumed.load_state_dict({k: saved[k] for k in resumed.state_dict()})
    for memory in resumed.memories():
        memory.load_state_dict({k: saved[f"{memory.name}.{k}"] for k in memory.tables})
    sgd = toy.optimizer(resumed)
    sgd.load_state_dict(sgd_state)
    resumed.on_epoch_start(toy.epoch(1))
    now = magnitude_mask(list(prunable_weights(resumed.backbone).values()), prune_ratio=0.6)
    assert not torch.equal(now, resumed.pruning.tables["mask"])
    assert toy.train(resumed, range(6, 9), sgd=sgd) == rest
    torch.testing.assert_close(
        toy.state(resumed), toy.state(straight), rtol=0, atol=0, equal_nan=True
    )


def test_without_pruning_both_branches_are_one_network():
    task = build(ratio=0.0)
    task.on_epoch_start(toy.epoch(0))
    x = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    z1, z2 = task.embed(x, x)
    assert torch.equal(z1, z2)


def test_evaluation_takes_the_dense_branch():
    task = build()
    task.on_epoch_start(toy.epoch(0))
    before = {k: v.clone() for k, v in task.twin.state_dict().items()}
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    task.backbone(x)
    assert all(torch.equal(before[k], v) for k, v in task.twin.state_dict().items())
    assert set(task.backbone.state_dict()) == set(toy.parts().backbone.state_dict())


def test_disagreement_is_one_minus_the_cosine_of_the_branches():
    task = build()
    task.on_epoch_start(toy.epoch(0))
    batch = toy.batch(1)
    seen = []
    task.twin.register_forward_hook(lambda m, x, out: seen.append(out.detach()))
    task.projector.register_forward_hook(lambda m, x, out: seen.append(out.detach()))
    task(batch)
    dense, pruned = seen[0], seen[-1]
    scores = task.scores()["disagreement"]
    for row, sample in enumerate(batch.index.tolist()):
        a, b = dense[row], pruned[row]
        want = 1 - float(a @ b) / (float(a.norm()) * float(b.norm()))
        assert scores[sample].item() == pytest.approx(want, abs=1e-5)
    assert int(scores.isnan().sum()) == toy.NUM_SAMPLES - len(batch)
    assert not scores.requires_grad


def test_memories_have_names_of_their_own():
    assert [m.name for m in build().memories()] == ["disagreement", "pruning"]


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_bad_prune_ratio(ratio):
    with pytest.raises(ConfigError, match=r"--sdclr\.prune-ratio"):
        SDCLROptions(prune_ratio=ratio)


def test_a_backbone_with_nothing_to_prune_is_refused():
    parts = toy.parts()
    flat = nn.Sequential(nn.Flatten(), nn.LayerNorm(192))
    with pytest.raises(ConfigError, match="--backbone: has no convolution and no linear layer"):
        build(TwoViewParts(flat, parts.projector, parts.view, (), num_samples=24))
