"""Small tasks of the losses with a step of their own, on the toy's views and batches."""

from __future__ import annotations

import torch
from torch import nn

from ssl_lt.finetune.registry import LOSSES
from ssl_lt.models.classifiers import linear_classifier
from tests.finetune import toy


def parts(**changed):
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    classifier = linear_classifier(8, toy.NUM_CLASSES)
    return toy.modules(backbone=backbone, classifier=classifier, **changed)


def task(name, **options):
    chosen = LOSSES[name].options(**{"hidden_dim": 7, "output_dim": 6, **options})
    return LOSSES[name].task(parts(), chosen).double()


def sgd(task):
    learned = [p for p in task.parameters() if p.requires_grad]
    return torch.optim.SGD(learned, lr=0.1, momentum=0.9)


def learn(task, *, steps, forward=None, share=lambda b: b, same=False):
    """Losses of some steps, and gradients of the last."""
    optimizer, losses, grads = sgd(task), [], {}
    for number in range(steps):
        optimizer.zero_grad()
        loss = (forward or task)(share(toy.batch(0 if same else number))).loss
        loss.backward()
        grads = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), grads


def state(task):
    """Weights, buffers and memories."""
    tensors = {name: value.clone() for name, value in task.state_dict().items()}
    for memory in task.memories():
        tensors |= {f"{memory.name}.{k}": v.clone() for k, v in memory.state_dict().items()}
    return tensors
