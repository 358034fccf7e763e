"""Toy parts that know a whole training set, for losses that ask for its features."""

from __future__ import annotations

from dataclasses import replace

import torch
from accelerate import Accelerator

from ssl_lt.core.types import Batch
from ssl_lt.engine.fit import fit
from ssl_lt.evaluate.features.embed import embed_batches
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.models.classifiers import linear_classifier
from tests.engine.tiny import TinyLoader, plan
from tests.finetune import toy_steps


class Loader(TinyLoader):
    """Pictures of four classes, 40, 14, 6 and 4 of them, each of a colour of its own."""

    def __init__(self, batch_size=16):
        super().__init__(batch_size=batch_size)
        self.labels = torch.arange(4).repeat_interleave(torch.tensor([40, 14, 6, 4]))
        light = 30 * self.labels[:, None, None, None] * torch.tensor([1, 0, -1])[:, None, None]
        self.images = (self.images // 2 + 60 + light).clamp(0, 255).to(torch.uint8)

    @property
    def counts(self):
        return torch.bincount(self.labels)

    def features(self, network):
        """What `FinetuneModules.train_features` gives, in evaluation mode."""
        images = self.images.double() / 255
        found = embed_batches(network, [Batch(images, self.labels, torch.arange(len(images)))])
        return found.features, found.labels


def task(name, **options):
    loader = Loader()
    parts = toy_steps.parts()
    parts = replace(
        parts,
        classifier=linear_classifier(8, 4),
        counts_per_class=loader.counts,
        train_features=loader.features,
    )
    return LOSSES[name].task(parts, LOSSES[name].options(**options)).double()


def batches(number):
    """The batches of an epoch."""
    return list(Loader().epoch(number))


def run(folder, task, *, epochs=3):
    """Trains through the engine, a checkpoint a step; weights, buffers and memories."""
    fit(
        task,
        Loader(),
        plan(checkpoint_every=1, epochs=epochs),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=lambda task, epoch: {},
    )
    return toy_steps.state(task)


class DiedError(Exception):
    pass


def dying(task, *, after):
    """The task, which is gone after some steps."""
    steps = []

    def die(module, args):
        if len(steps) == after:
            raise DiedError
        steps.append(1)

    task.register_forward_pre_hook(die)
    return task


def epochs_on(task, *, forward=None, share=lambda b: b, numbers=(0, 1)):
    """Some epochs: losses, and gradients of the last step."""
    optimizer, losses, grads = toy_steps.sgd(task), [], {}
    for number in numbers:
        task.on_epoch_start(toy_steps.toy.epoch(number))
        for batch in batches(number):
            optimizer.zero_grad()
            loss = (forward or task)(share(batch)).loss
            loss.backward()
            grads = {n: p.grad.clone() for n, p in task.named_parameters()}
            optimizer.step()
            losses.append(loss.detach())
        task.on_epoch_end(toy_steps.toy.epoch(number))
    return torch.stack(losses), grads
