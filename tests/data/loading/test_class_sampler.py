"""The sampler of PyTorch draws what `finetune.py --sampler` draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.core.types import Epoch
from ssl_lt.data.loading.class_sampled_plan import ClassSampledPlan
from ssl_lt.data.loading.class_sampler import ClassBalancedSampler
from ssl_lt.finetune.balance.class_rates import SamplerOptions, class_rates

LABELS = torch.tensor([0] * 40 + [1] * 15 + [2] * 5)[torch.randperm(60)]
COUNTS = torch.tensor([40, 15, 5])


@pytest.mark.parametrize(("name", "power"), [("class_balanced", 0.0), ("square_root", 0.5)])
def test_it_draws_what_finetune_draws(name, power):
    def rates(epoch):
        return class_rates(COUNTS, SamplerOptions(name), Epoch(epoch, 3, 5))

    plan = ClassSampledPlan(60, 12, 7, labels=LABELS, rates=rates)
    sampler = ClassBalancedSampler(LABELS, power=power, seed=7)
    for epoch in range(3):
        assert list(sampler) == plan.rows(epoch).flatten().tolist()
    sampler.set_epoch(1)
    assert list(sampler) == plan.rows(1).flatten().tolist()


def test_classes_come_alike_and_each_pass_has_another_order():
    sampler = ClassBalancedSampler(LABELS.tolist(), num_samples=90)
    first, second = list(sampler), list(sampler)
    assert len(sampler) == len(first) == 90
    assert first != second
    found = torch.bincount(LABELS[torch.tensor(first)])
    assert ((found - 30).abs() < 2).all()


def test_a_loader_takes_it():
    loader = DataLoader(LABELS, sampler=ClassBalancedSampler(np.asarray(LABELS)), batch_size=20)
    assert [len(batch) for batch in loader] == [20, 20, 20]


@pytest.mark.parametrize("labels", [[], [0.5, 1.0], [0, -1], [[0, 1]]])
def test_bad_labels_are_refused(labels):
    with pytest.raises(DataError, match="labels: "):
        ClassBalancedSampler(labels)


@pytest.mark.parametrize("options", [{"power": -1.0}, {"power": 2.0}, {"num_samples": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError):
        ClassBalancedSampler([0, 1], **options)
