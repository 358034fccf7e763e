import pytest
import torch
from torch.nn import functional as F

from ssl_lt.losses.class_prior import PerSamplePrior, StreamingPrior, prior_from_counts


def one_hot_logits(clusters, num_clusters, *, noise, generator):
    logits = F.one_hot(clusters, num_clusters).float()
    return F.normalize(logits + noise * torch.randn(logits.shape, generator=generator), dim=1)


def stream(prior, clusters, *, epochs, momentum, generator, batch=50, noise=0.2):
    """Feeds whole epochs, each in another order; every sample keeps its cluster."""
    num_clusters = len(prior.prior)
    for _ in range(epochs):
        for index in torch.randperm(len(clusters), generator=generator).split(batch):
            logits = one_hot_logits(clusters[index], num_clusters, noise=noise, generator=generator)
            prior.update(index, logits, momentum=momentum)


def test_per_sample_average_follows_the_equation():
    g = torch.Generator().manual_seed(0)
    prior = PerSamplePrior(7, 3)
    slow = [[0.0] * 3 for _ in range(7)]
    for momentum in (0.9, 0.9, 0.999):
        index = torch.randperm(7, generator=g)[:4]
        logits = torch.randn(4, 3, generator=g)
        prior.update(index, logits, momentum=momentum)
        for row, i in enumerate(index.tolist()):
            for k in range(3):
                slow[i][k] = momentum * slow[i][k] + (1 - momentum) * logits[row, k].item()
    torch.testing.assert_close(prior.tables["logits"], torch.tensor(slow))


def test_per_sample_prior_is_the_histogram_of_the_samples_clusters():
    prior = PerSamplePrior(6, 4)
    prior.update(torch.tensor([5, 0, 2, 3]), torch.eye(4)[[1, 1, 3, 0]], momentum=0.9)
    torch.testing.assert_close(prior.prior, torch.full((4,), 0.25))
    prior.refresh(pseudo_count=0, empty="keep")
    # Samples 1 and 4 have not been seen and count nowhere.
    torch.testing.assert_close(prior.prior, torch.tensor([1, 2, 0, 1]) / 4)
    assert prior.clusters().tolist() == [1, -1, 3, 0, -1, 1]


def test_one_sample_twice_in_a_batch_counts_once():
    once, twice = PerSamplePrior(3, 2), PerSamplePrior(3, 2)
    once.update(torch.tensor([1, 2]), torch.tensor([[1.0, 0], [0, 1]]), momentum=0.9)
    twice.update(torch.tensor([1, 2, 1]), torch.tensor([[1.0, 0], [0, 1], [0, 1]]), momentum=0.9)
    assert torch.equal(once.tables["logits"], twice.tables["logits"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_left_out(bad):
    logits = torch.tensor([[0.0, 1.0], [bad, 0.0]])
    per_sample, streaming = PerSamplePrior(2, 2), StreamingPrior(2)
    for prior in (per_sample, streaming):
        prior.update(torch.arange(2), logits, momentum=0.5)
        assert prior.counts().tolist() == [0.0, 1.0]


def test_streaming_counts_follow_the_equation():
    prior = StreamingPrior(3)
    prior.update(torch.arange(3), torch.eye(3)[[0, 0, 2]], momentum=0.5)
    prior.update(torch.arange(2), torch.eye(3)[[1, 2]], momentum=0.5)
    assert prior.counts().tolist() == [1.0, 1.0, 1.5]
    prior.refresh(pseudo_count=0, empty="keep")
    torch.testing.assert_close(prior.prior, torch.tensor([2.0, 2.0, 3.0]) / 7)


def test_streaming_memory_does_not_grow_with_the_samples():
    assert sum(t.numel() for t in StreamingPrior(100).tables.values()) == 200


def test_streaming_counts_sum_to_about_the_samples():
    g = torch.Generator().manual_seed(0)
    prior = StreamingPrior(5)
    clusters = torch.randint(5, (1000,), generator=g)
    stream(prior, clusters, epochs=8, momentum=1 - 1 / 20, generator=g)
    assert prior.counts().sum().item() == pytest.approx(1000, rel=0.01)


def test_both_estimates_agree_on_a_steady_stream_and_after_drift():
    g = torch.Generator().manual_seed(0)
    shares = torch.softmax(-torch.linspace(0, 3, 8), 0)
    per_sample, streaming = PerSamplePrior(2000, 8), StreamingPrior(8)
    before = torch.multinomial(shares, 2000, replacement=True, generator=g)
    after = torch.multinomial(shares.flip(0), 2000, replacement=True, generator=g)
    priors = {}
    for name, clusters, epochs in (("before", before, 3), ("after", after, 12)):
        true = clusters.bincount(minlength=8) / 2000
        for prior, momentum in ((per_sample, 0.9), (streaming, 1 - 1 / 40)):
            stream(prior, clusters, epochs=epochs, momentum=momentum, generator=g)
            prior.refresh(pseudo_count=0, empty="keep")
        torch.testing.assert_close(per_sample.prior, true, atol=0.005, rtol=0)
        torch.testing.assert_close(streaming.prior, true, atol=0.03, rtol=0)
        torch.testing.assert_close(streaming.prior, per_sample.prior, atol=0.03, rtol=0)
        priors[name] = streaming.prior
    assert (priors["before"] - priors["after"]).abs().max() > 0.3


def test_published_momentum_after_the_warmup_hardly_follows_drift():
    g = torch.Generator().manual_seed(0)
    prior = PerSamplePrior(200, 4)
    stream(prior, torch.zeros(200, dtype=torch.int64), epochs=20, momentum=0.9, generator=g)
    stream(prior, torch.ones(200, dtype=torch.int64), epochs=20, momentum=0.999, generator=g)
    assert prior.counts()[0] == 200


@pytest.mark.parametrize(
    ("pseudo_count", "empty", "expected"),
    [
        (0, "keep", [6 / 8, 0, 2 / 8]),
        (0, "floor", [6 / 9, 1 / 9, 2 / 9]),
        (100, "keep", [106 / 308, 100 / 308, 102 / 308]),
    ],
)
def test_pseudo_counts_and_empty_clusters(pseudo_count, empty, expected):
    counts = torch.tensor([6.0, 0, 2])
    shares = prior_from_counts(counts, pseudo_count=pseudo_count, empty=empty)
    torch.testing.assert_close(shares, torch.tensor(expected))


@pytest.mark.parametrize("empty", ["keep", "floor"])
def test_shares_are_equal_where_nothing_was_counted(empty):
    shares = prior_from_counts(torch.zeros(4), empty=empty)
    torch.testing.assert_close(shares, torch.full((4,), 0.25))


@pytest.mark.parametrize("make", [lambda: PerSamplePrior(10, 3), lambda: StreamingPrior(3)])
def test_saved_and_loaded_goes_on_alike(make):
    g = torch.Generator().manual_seed(0)
    steps = [
        (torch.randperm(10, generator=g)[:5], torch.randn(5, 3, generator=g)) for _ in range(6)
    ]
    whole, first, second = make(), make(), make()
    for index, logits in steps:
        whole.update(index, logits, momentum=0.9)
    for index, logits in steps[:3]:
        first.update(index, logits, momentum=0.9)
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
    for index, logits in steps[3:]:
        second.update(index, logits, momentum=0.9)
    for key, table in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], table)


def test_another_number_of_samples_is_refused():
    with pytest.raises(ValueError, match=r"class_prior\.logits"):
        PerSamplePrior(10, 3).load_state_dict(PerSamplePrior(9, 3).state_dict())
