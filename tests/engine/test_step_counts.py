"""No step waits for the device, loops over samples or classes, or launches more than it did.

The cases come from the registries: what is registered is counted here, and needs a line in
step_counts.json, which `--update-counts` writes. The network is ResNet-20, whose own kernels are in
every count.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from ssl_lt.core.types import Batch, Epoch
from ssl_lt.data.dataset import Data
from ssl_lt.data.options import DataOptions
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.finetune.tasks.meta_sampled_task import MetaSampledTask
from ssl_lt.losses.sinkhorn import sinkhorn
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from ssl_lt.runs.build.finetuning import build_task as finetuning_task
from ssl_lt.runs.build.pretraining import build_task as pretraining_task
from tests.configs import finetuning, pretraining
from tests.engine.device_counter import META, HostCopyError, KernelCounter, on_device, step_kernels
from tests.engine.recorded import COMMAND, FILE, Recorded
from tests.engine.tiny import TinyLoader, TinyTask, plan

TINY = {"backbone": "resnet20_cifar", "width": 4, "mixed-precision": "no"}
FEW = {"gh.clusters": 8, "gh.sinkhorn-iterations": 2}
SETS = [(), *((name,) for name in PLUGINS), tuple(PLUGINS)]
# Name -> method, plug-ins and what is not the default.
PRETRAINING = {"+".join([m, *names]): (m, names, {}) for m in METHODS for names in SETS}
PRETRAINING |= {
    "gh, streaming": ("simclr", ("gh",), {"gh.prior": "streaming"}),
    "bcl, two operations": ("simclr", ("bcl",), {"bcl.num-ops": 2, "bcl.rule": "paper"}),
}
# Name -> loss and what is not the default.
FINETUNING = {name: (name, {}) for name in LOSSES} | {
    "la, autoaugment": ("la", {"augment": "autoaugment"}),
    "la, cosine": ("la", {"classifier": "cosine"}),
    "la, frozen": ("la", {"tune": "head"}),
    "la, reweighted": ("la", {"reweight": "inverse"}),
    "la, ride": ("la", {"experts": "ride"}),
    "la, ace": ("la", {"experts": "ace"}),
    "la, meta sampler": ("la", {"sampler": "meta", "tune": "head"}),
    "rcl, compressed": ("rcl", {"compression": 0.5, "compression-start": 0.0}),
    "la, mixed": ("la", {"mix": "both"}),
    "bcl, concutmix": ("bcl", {"mix": "concutmix"}),
}
OPTIMIZERS = ("sgd", "adamw", "lars")
NAMES = {
    "pretraining": list(PRETRAINING),
    "finetuning": list(FINETUNING),
    "updates": list(OPTIMIZERS),
    "sinkhorn": ["two views"],
}


@pytest.fixture(scope="module")
def recorded(request):
    counts = Recorded(NAMES, update=request.config.getoption("update_counts"))
    yield counts
    counts.write()


def data(num_classes):
    """Noise, more of the first classes than of the last."""
    counts = torch.arange(num_classes, 0, -1) + 4
    labels = torch.arange(num_classes).repeat_interleave(counts)
    pixels = torch.randint(256, (len(labels), 3, 16, 16), dtype=torch.uint8)
    names = tuple(str(number) for number in range(num_classes))
    grey, table = (0.5, 0.5, 0.5), PixelTable(pixels, labels)
    return Data(
        source=Source("noise", names, table, mean=grey, std=grey, image_size=16),
        split=SimpleNamespace(counts_per_class=tuple(counts.tolist())),
        train=table,
        options=DataOptions(num_workers=0),
    )


def pretraining_case(name):
    """The task of a name in `PRETRAINING` and what it trains on."""
    method, plugins, own = PRETRAINING[name]
    few = {key: value for key, value in FEW.items() if key.partition(".")[0] in plugins}
    config, chosen = pretraining(method, plugins, TINY | few | own), data(8)
    return pretraining_task(config, chosen), chosen


def finetuning_case(name, *, batch_size, num_classes):
    """The task of a name in `FINETUNING` and what it trains on."""
    loss, own = FINETUNING[name]
    config, chosen = finetuning(loss, TINY | {"batch-size": batch_size} | own), data(num_classes)
    return finetuning_task(config, chosen), chosen


def first_batch(task, data, *, batch_size, device):
    """Of the last epoch, in which everything that starts late has started."""
    task.train()
    task.on_epoch_start(Epoch(number=39, total=40, steps=3))
    if isinstance(task, MetaSampledTask):  # whose features are no memory
        bank = task.sampler.bank
        task.sampler.set_features(bank.features, bank.labels, device=device)
    rows = torch.arange(batch_size) * len(data.train) // batch_size
    return Batch(data.train.pixels[rows], data.train.labels[rows], rows)


def kernels(task, data, monkeypatch, batch_size):
    batch = first_batch(task, data, batch_size=batch_size, device=META)
    return step_kernels(task, batch, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_steps(name, recorded, monkeypatch):
    found, again = (kernels(*pretraining_case(name), monkeypatch, size) for size in (8, 16))
    assert again == found
    recorded.allows("pretraining", name, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning_steps(name, recorded, monkeypatch):
    found, again = (
        kernels(*finetuning_case(name, batch_size=size, num_classes=n), monkeypatch, size)
        for size, n in ((8, 6), (16, 12))
    )
    assert again == found
    recorded.allows("finetuning", name, found)


def test_everything_recorded_is_counted(recorded):
    assert recorded.superfluous() == [], f"nothing has these names; run {COMMAND}"


def test_what_is_not_recorded_names_the_command_that_records_it(tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match=f"finetuning new: .* run {COMMAND}"):
        Recorded(NAMES, update=False).allows("finetuning", "new", 3)
    copy = tmp_path / "counts.json"
    copy.write_text(FILE.read_text())
    monkeypatch.setattr("tests.engine.recorded.FILE", copy)
    names = NAMES | {"finetuning": ["new", *NAMES["finetuning"][1:]]}  # the first one is gone
    updated = Recorded(names, update=True)
    updated.allows("finetuning", "new", 3)
    updated.write()
    again = Recorded(names, update=False)
    again.allows("finetuning", "new", 3)
    assert again.superfluous() == []
    with pytest.raises(AssertionError, match="finetuning new: 4 kernels a step, 3 are recorded"):
        again.allows("finetuning", "new", 4)
    assert FILE.read_text() != copy.read_text()


@pytest.mark.parametrize("shape", [(2, 512, 100), (2, 4096, 1000)])
def test_sinkhorn(shape, recorded, monkeypatch):
    with on_device(monkeypatch) as counter:
        logits, prior = torch.empty(shape, device=META), torch.empty(shape[-1], device=META)
        sinkhorn(logits, prior, epsilon=0.05)
    recorded.allows("sinkhorn", "two views", counter.kernels)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_update_takes_as_many_kernels_however_many_weights_there_are(optimizer, recorded):
    def update(num_layers):
        network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(num_layers)))
        made = build_optimizer(network, OptimOptions(optimizer=optimizer, decay="all"))
        network(torch.ones(1, 4)).sum().backward()
        made.step()  # makes what it remembers
        with KernelCounter() as counter:
            made.step()
            made.zero_grad(set_to_none=True)
        return counter

    assert update(2).kernels == update(9).kernels
    recorded.allows("updates", optimizer, update(2).kernels)
    assert update(2).looks == 0


def test_the_loop_looks_at_one_number_a_step(tmp_path):
    def looks(steps):
        with KernelCounter() as counter:
            fit(
                TinyTask(num_samples=16 * steps),
                TinyLoader(num_samples=16 * steps),
                plan(epochs=1, log_every=1000),
                accelerator=Accelerator(cpu=True, mixed_precision="no"),
                folder=create_run_folder(tmp_path / str(steps)),
                end_of_epoch=lambda task, epoch: {},
            )
        return counter.looks

    assert looks(8) - looks(4) == 4  # whether the step is finite


OFFENCES = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: 1 if x.sum() > 0 else 0,
    "mask as index": lambda x: x[x > 0],
    "masked_select": lambda x: x.masked_select(x > 0),
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().bincount(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "loop over values": lambda x: [int(value) for value in x],
    "number from the host": lambda x: x + torch.tensor(1.0, device=META),
    "rows from the host": lambda x: x[torch.arange(2)],
    "list as index": lambda x: x[[0, 1]],
    "copy from the host": lambda x: x + torch.ones(4).to(META),
}


@pytest.mark.parametrize("name", OFFENCES)
def test_a_look_or_a_copy_is_refused(name, monkeypatch):
    x = torch.ones(4, device=META)
    refusals = (RuntimeError, NotImplementedError, TypeError, HostCopyError)
    with on_device(monkeypatch), pytest.raises(refusals):
        OFFENCES[name](x)


def test_a_loop_over_samples_is_counted(monkeypatch):
    def count(size):
        with on_device(monkeypatch) as counter:
            torch.stack([row * 2 for row in torch.empty(size, 3, device=META)])
        return counter.kernels

    assert (count(4), count(8)) == (5, 9)
