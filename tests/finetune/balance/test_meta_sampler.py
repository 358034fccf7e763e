"""The meta sampler: its gradient by differences, its draws by counting, its state by resuming."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, Epoch
from ssl_lt.data.loading.class_sampled_plan import ClassSampledPlan
from ssl_lt.data.loading.plan import TrainLoader
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.finetune.balance.meta_sampler import (
    LabelledFeatures,
    MetaSampler,
    MetaSamplerOptions,
    class_logits,
    moved_weights,
    straight_through,
)
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.finetune.tasks.meta_sampled_task import MetaSampledTask
from ssl_lt.losses.cross_entropy import CrossEntropy, CrossEntropyOptions
from ssl_lt.losses.logit_adjustment import LogitAdjustment, LogitAdjustmentOptions
from tests.distributed.pool import run_on_two
from tests.engine.tiny import plan as tiny_plan
from tests.finetune.toy import Light

COUNTS = torch.tensor([24, 10, 4, 2])
LABELS = torch.repeat_interleave(torch.arange(4), COUNTS)
EPOCH = Epoch(number=0, total=3, steps=5)
FEATURES = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)).double()
FEATURES = FEATURES + F.one_hot(LABELS, 4)[:, :3]


def balanced_softmax():
    return LogitAdjustment(COUNTS, LogitAdjustmentOptions())


def sampler(batch_size=32, seed=0, counts=COUNTS, **options):
    made = MetaSampler(counts, MetaSamplerOptions(**options), batch_size=batch_size, seed=seed)
    order = torch.arange(40).flip(0)  # it sorts by class itself
    made.set_features(FEATURES[order], LABELS[order], device=torch.device("cpu"))
    return made


def classifier():
    torch.manual_seed(4)
    return nn.Linear(3, 4).double()


# --- the gradient


def test_the_meta_gradient_is_that_of_differences():
    """d outer / d w_b by differences of the step, times d soft_b / d a by differences of it."""
    made, network, loss, lr = sampler(batch_size=6), classifier(), balanced_softmax(), 0.7
    logits = torch.tensor([0.3, -0.5, 0.1, 1.0], dtype=torch.float64)
    noise, balanced = made._draws()
    noise = noise.double()
    drawn = (class_logits(logits, COUNTS.double()) + noise).argmax(dim=1)
    rows = LabelledFeatures(FEATURES[:6], drawn)

    def outer(weights):
        theta = moved_weights(network, loss, rows, weights, lr=lr)
        outputs = balanced.features @ theta["weight"].T + theta["bias"]
        return F.cross_entropy(outputs, balanced.labels)

    a = logits.clone().requires_grad_()
    weights = straight_through(class_logits(a, COUNTS.double()) + noise, drawn)
    assert torch.equal(weights.detach(), torch.ones(6, dtype=torch.float64))
    (found,) = torch.autograd.grad(outer(weights), a)

    def soft(a):
        perturbed = torch.log(COUNTS * torch.sigmoid(a)) + noise
        return torch.stack(
            [torch.softmax(row, 0)[j] for row, j in zip(perturbed, drawn, strict=True)]
        )

    step = 1e-5
    ones, eye = torch.ones(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)
    of_weight = [(outer(ones + step * e) - outer(ones - step * e)) / (2 * step) for e in eye]
    want = torch.zeros(4, dtype=torch.float64)
    for j, e in enumerate(torch.eye(4, dtype=torch.float64)):
        change = (soft(logits + step * e) - soft(logits - step * e)) / (2 * step)
        want[j] = sum(w * c for w, c in zip(of_weight, change, strict=True))
    assert want.abs().min() > 1e-6
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-10)


def test_two_classes_by_hand():
    """One feature, no bias, theta = 0: every number can be written down."""
    network = nn.Linear(1, 2, bias=False).double()
    nn.init.zeros_(network.weight)
    loss = CrossEntropy(torch.ones(2), CrossEntropyOptions())
    one = torch.ones(2, 1, dtype=torch.float64)
    rows = LabelledFeatures(one, torch.tensor([0, 1]))
    weights = torch.tensor([1.5, 0.5], dtype=torch.float64)
    theta = moved_weights(network, loss, rows, weights, lr=0.2)
    # The gradient of -log softmax(theta)_0 at 0 is (-1/2, 1/2).
    want = 0.2 * (1.5 - 0.5) / 2 * torch.tensor([[0.5], [-0.5]], dtype=torch.float64)
    torch.testing.assert_close(theta["weight"], want)
    noise = torch.tensor([[0.4, 0.1]], dtype=torch.float64)
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    weights = straight_through(
        class_logits(logits, torch.tensor([3.0, 1.0])) + noise, rows.labels[:1]
    )
    (gradient,) = torch.autograd.grad(weights.sum(), logits)
    p = 1 / (1 + torch.exp(noise[0, 1] - noise[0, 0]) / 3)
    # d log sigmoid(a) / d a is 1/2 at 0.
    torch.testing.assert_close(gradient, torch.stack([p * (1 - p) / 2, -p * (1 - p) / 2]))


def test_the_classifier_is_only_tried_on():
    made, network = sampler(), classifier()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made.learn(network, balanced_softmax())
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert made.memory.tables["logits"].abs().min() > 0


def test_adam_is_torchs():
    made = sampler(lr=0.03)
    logits = torch.zeros(4, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.03)
    for number in range(5):
        gradient = torch.randn(4, generator=torch.Generator().manual_seed(number))
        made._adam(gradient)
        logits.grad = gradient
        adam.step()
    torch.testing.assert_close(made.memory.tables["logits"], logits.detach())


# --- what is drawn


def test_classes_are_drawn_by_count_times_rate():
    made = sampler(batch_size=4000)
    logits = torch.tensor([-1.0, 0.0, 0.5, 3.0])
    made.memory.tables["logits"].copy_(logits)
    noise, _ = made._draws()
    drawn = (class_logits(logits, COUNTS) + noise).argmax(dim=1)
    rates = [n * torch.sigmoid(a).item() for n, a in zip(COUNTS.tolist(), logits, strict=True)]
    observed = torch.bincount(drawn, minlength=4).numpy()
    assert stats.chisquare(observed, [4000 * r / sum(rates) for r in rates]).pvalue > 1e-3
    made.on_epoch_end()
    want = torch.tensor([r / sum(rates) for r in rates])
    torch.testing.assert_close(made.rates, want)


def test_at_first_images_are_drawn_uniformly():
    torch.testing.assert_close(sampler().rates, COUNTS / 40)


def test_balanced_batches_go_round_the_classes_and_through_their_rows():
    made = sampler(batch_size=6)
    seen, numbers = [], set()
    for step in range(120):
        made.memory.tables["steps"].fill_(step)
        _, batch = made._draws()
        seen += batch.labels.tolist()
        for row, label in zip(batch.features, batch.labels, strict=True):
            (number,) = torch.nonzero(torch.eq(FEATURES, row).all(dim=1))[:, 0].tolist()
            assert LABELS[number] == label
            numbers.add(number)
    assert seen == list(range(4)) * 180
    assert len(numbers) == 40


def test_a_class_without_images_is_left_out():
    counts = torch.tensor([24, 10, 4, 2, 0])
    made = sampler(counts=counts)
    network = nn.Linear(3, 5).double()
    for _ in range(3):
        made.learn(network, CrossEntropy(torch.ones(5), CrossEntropyOptions()))
    made.on_epoch_end()
    assert made.memory.tables["logits"].isfinite().all()
    assert made.rates[4] == 0
    assert 4 not in made._draws()[1].labels


def test_it_learns_to_draw_what_the_balanced_batch_misses():
    """After cross-entropy on the long tail it is the tail that one learns most from."""
    made, network = sampler(batch_size=64, lr=0.05), classifier()
    sgd = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(50):
        sgd.zero_grad()
        F.cross_entropy(network(FEATURES), LABELS).backward()
        sgd.step()
    for _ in range(40):
        made.learn(network, CrossEntropy(torch.ones(4), CrossEntropyOptions()))
    logits = made.memory.tables["logits"]
    assert logits[3] > 0.5 > -0.5 > logits[0]
    made.on_epoch_end()
    assert made.rates[0] < 0.5
    assert made.rates[3] > 0.06


# --- the task


def pixels():
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(128, (40, 3, 6, 6), generator=generator)
    images = images + 30 * LABELS[:, None, None, None]
    return images.clamp(0, 255).to(torch.uint8)


class Mean(nn.Module):
    """Features: the mean colour, in double precision, times a weight that stays."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x.mean(dim=(2, 3)).double() * self.weight


def parts(tune="head"):
    torch.manual_seed(0)

    def train_features(network):
        return network(pixels() / 255).detach(), LABELS

    return FinetuneModules(
        backbone=Mean().requires_grad_(tune != "head"),
        num_features=3,
        classifier=nn.Linear(3, 4).double(),
        view=Light(0.3),
        contrastive_view=None,
        counts_per_class=COUNTS,
        tune=tune,
        train_features=train_features,
        seed=5,
    )


def task(tune="head", batch_size=8):
    options = MetaSamplerOptions(lr=0.1)
    return MetaSampledTask(parts(tune), balanced_softmax(), options, batch_size=batch_size)


def test_the_step_is_the_classifiers_own():
    made = task()
    whole = Batch(pixels()[:8], LABELS[:8], torch.arange(8))
    made.on_epoch_start(EPOCH)
    found = made(whole)
    plain = ClassifierTask(parts(), made.loss)
    torch.testing.assert_close(found.loss, plain(whole).loss)
    (memory,) = made.memories()
    assert memory.tables["steps"] == 1
    before = made.rates(0).clone()
    made.on_epoch_end(EPOCH)
    assert not torch.equal(made.rates(1), before)


def test_it_needs_features_that_stay():
    with pytest.raises(ConfigError, match="--sampler meta: needs --tune head"):
        task("all")


@pytest.mark.parametrize(("lr", "inner_lr"), [(0, 1), (1, 0), (float("nan"), 1)])
def test_bad_options(lr, inner_lr):
    with pytest.raises(ConfigError, match=r"--meta\.(lr|inner-lr): "):
        MetaSamplerOptions(lr, inner_lr)


class DiedError(Exception):
    pass


def train(made: TrainTask, folder, rates):
    table = PixelTable(pixels(), LABELS)
    plan = ClassSampledPlan(40, 8, 5, LABELS, rates)
    fit(
        made,
        TrainLoader(table, plan, device=torch.device("cpu")),
        replace(tiny_plan(checkpoint_every=1), seed=5),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=lambda task, epoch: {},
    )
    return made


def dies(made, last_step):
    """The task, which fails after some steps."""
    forward, steps = made.forward, []

    def limited(batch):
        if len(steps) == last_step:
            raise DiedError
        steps.append(batch)
        return forward(batch)

    made.forward = limited
    return made


def plain_task():
    return ClassifierTask(parts(), balanced_softmax())


@pytest.mark.parametrize("last_step", [3, 5, 7, 12])
@pytest.mark.parametrize("name", ["meta", "class_balanced"])
def test_resumed_anywhere_is_the_same_bit_for_bit(tmp_path, name, last_step):
    make = task if name == "meta" else plain_task

    def rates_of(made):
        return made.rates if name == "meta" else lambda epoch: torch.ones(4)

    whole, broken = (create_run_folder(tmp_path / name) for name in ("whole", "broken"))
    expected = make()
    train(expected, whole, rates_of(expected))
    first, second = dies(make(), last_step), make()
    with pytest.raises(DiedError):
        train(first, broken, rates_of(first))
    train(second, broken, rates_of(second))
    for key, value in expected.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key
    for memory, other in zip(expected.memories(), second.memories(), strict=True):
        for key, table in memory.tables.items():
            assert torch.equal(other.tables[key], table), key
        assert not torch.allclose(memory.tables["rates"], COUNTS / 40)
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()


def test_a_row_that_comes_again_is_augmented_anew():
    made = plain_task()
    index, draw = torch.tensor([39, 39, 39, 2]), torch.tensor([0, 1, 2, 0])
    batch = Batch(pixels()[index], LABELS[index], index, draw)
    views = made.view_of(batch, made.view, number=0)
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])
    plain = made.view_of(replace(batch, draw=None), made.view, number=0)
    assert torch.equal(views[[0, 3]], plain[[0, 3]])


# --- ranks


def run(made, *, wrap=lambda made: made, share=slice(None)):
    """Two epochs of three steps on the rows that the sampler draws."""
    module = wrap(made)
    sgd = torch.optim.SGD(made.classifier.parameters(), lr=0.5)
    losses = []
    for number in range(2):
        made.on_epoch_start(replace(EPOCH, number=number))
        rows = torch.arange(8) * 5 + number
        for step in range(3):
            index = ((rows + step) % 40)[share]
            sgd.zero_grad()
            loss = module(Batch(pixels()[index], LABELS[index], index)).loss
            loss.backward()
            sgd.step()
            losses.append(loss.detach())
        made.on_epoch_end(EPOCH)
    return torch.stack(losses), dict(made.memories()[0].tables), dict(made.classifier.state_dict())


def run_of_a_rank(rank):
    share = slice(4 * rank, 4 * rank + 4)
    return run(task(), wrap=DistributedDataParallel, share=share)


@pytest.mark.distributed
def test_two_processes_equal_one():
    losses, tables, weights = run(task())
    first, second = run_on_two(run_of_a_rank)
    torch.testing.assert_close((first[0] + second[0]) / 2, losses)
    for found in (first, second):
        torch.testing.assert_close(found[1], tables, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found[2], weights)
    for key in tables:
        assert torch.equal(first[1][key], second[1][key])
