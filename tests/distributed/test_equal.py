"""Three processes fine-tune, measure and judge as one does, whatever three does not divide.

The losses come from the registries. Methods and plug-ins: tests/pretrain/test_combinations.py.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.types import Batch, Epoch
from ssl_lt.evaluate.features.embed import classifier_predictions, embed_dataset
from ssl_lt.evaluate.monitor import Monitor
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on
from tests.finetune import every_loss

NUM_RANKS = 3
SHARE = every_loss.BATCH_SIZE // NUM_RANKS
EVALUATION_BATCHES = (7, 512)

pytestmark = pytest.mark.distributed


def build_double(loss):
    """In float64, where only an error of ours is larger than the tolerance; logits are float32."""
    task = every_loss.task(loss, backbone=every_loss.LAYER_NORMS).double()
    for part in task.modules():
        if isinstance(part, type(task.backbone)):  # a momentum encoder has another one
            part.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    return task


def two_epochs(task, *, change=lambda batch: batch, wrap=lambda task: task):
    """Losses and terms of a step each, gradients of the second, and the state before its update."""
    forward = wrap(task)
    learned = [p for p in task.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(learned, lr=0.002, momentum=0.9)
    losses, terms = [], []
    for number in range(2):
        if losses:
            sgd.step()
        epoch = Epoch(number, 2, 1)
        task.train()
        task.on_epoch_start(epoch)
        sgd.zero_grad()
        output = forward(change(every_loss.batch(number)))
        output.loss.backward()
        losses.append(output.loss.detach())
        terms.append(dict(output.terms))
        task.on_epoch_end(epoch)
    memories = {f"{m.name}.{k}": v for m in task.memories() for k, v in m.state_dict().items()}
    return {
        "losses": torch.stack(losses),
        "terms": terms,
        "gradients": {n: p.grad for n, p in task.named_parameters() if p.grad is not None},
        "state": {k: v.detach().clone() for k, v in (task.state_dict() | memories).items()},
    }


def judged():
    """What is measured of an untrained network: features, predictions, the monitor's numbers."""
    data = every_loss.digits()
    task = every_loss.task("ce", backbone=every_loss.LAYER_NORMS)
    features = [
        embed_dataset(task.backbone, data.train, data, precision="no", batch_size=size)
        for size in EVALUATION_BATCHES
    ]
    network = nn.Sequential(task.backbone, task.classifier)
    return {
        "features": [(f.features, f.labels, f.index) for f in features],
        "predictions": [
            torch.from_numpy(found)
            for found in classifier_predictions(network, data.train, data, precision="no")
        ],
        "monitor": dict(Monitor(data, "no", warn=lambda line: None)(task.backbone)),
    }


def _on_this_rank(rank):
    def share(batch):
        rows = slice(rank * SHARE, (rank + 1) * SHARE)
        return Batch(batch.images[rows], batch.labels[rows], batch.index[rows])

    def wrap(task):
        return DistributedDataParallel(task, broadcast_buffers=False)

    return {
        "judged": judged(),
        **{
            loss: two_epochs(synchronised(build_double(loss)), change=share, wrap=wrap)
            for loss in every_loss.NAMES
        },
    }


@cache
def ranks():
    return run_on(NUM_RANKS, _on_this_rank)


@pytest.mark.parametrize("loss", every_loss.NAMES)
def test_fine_tuning(loss):
    first, *others = (found[loss] for found in ranks())
    alone = two_epochs(build_double(loss))
    losses = torch.stack([found["losses"] for found in (first, *others)])
    torch.testing.assert_close(losses.mean(dim=0), alone["losses"], rtol=1e-5, atol=1e-5)
    assert not torch.equal(losses[0], losses[1])  # each has its own third
    for step, expected in enumerate(alone["terms"]):
        for name, value in expected.items():
            mean = sum(found["terms"][step][name] for found in (first, *others)) / NUM_RANKS
            torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-5)
    assert first["state"].keys() == alone["state"].keys()
    for part in ("gradients", "state"):
        for other in others:
            torch.testing.assert_close(other[part], first[part], rtol=0, atol=0, equal_nan=True)
        # Float32's rounding of the logits is in all of them.
        torch.testing.assert_close(first[part], alone[part], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_judging():
    expected = judged()
    assert len(expected["predictions"][0]) % NUM_RANKS
    for found in (rank["judged"] for rank in ranks()):
        for mine, wanted in zip(found["features"], expected["features"], strict=True):
            assert mine[2].tolist() == list(range(101))
            torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)
        assert all(map(torch.equal, found["predictions"], expected["predictions"]))
        assert found["monitor"].keys() == {"feature_std", "effective_rank", "knn"}
        assert found["monitor"] == pytest.approx(expected["monitor"], rel=1e-5)
