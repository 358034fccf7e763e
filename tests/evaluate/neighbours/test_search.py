import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import DataError
from ssl_lt.data.splits.hold_out import held_out_rows
from ssl_lt.evaluate.features.extract import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions, vote
from ssl_lt.evaluate.neighbours.knn_sweep import ask_bank, choose_k, hold_out_of_bank
from ssl_lt.evaluate.neighbours.search import find_neighbours
from ssl_lt.evaluate.neighbours.search import search as neighbours
from tests.evaluate.neighbours.test_knn import brute_force, clusters


def overlap(found, exact):
    """Share of the exact neighbours' similarities that an approximate search reached."""
    return (found.similarity[:, -1:] <= exact.similarity + 1e-2).mean()


def test_exact_search_is_the_definition():
    bank, queries = clusters(300, seed=0), clusters(40, seed=1)
    found = find_neighbours(bank, queries, k=7, num_classes=6)
    similar = (
        F.normalize(queries.features.double(), dim=1) @ F.normalize(bank.features.double(), dim=1).T
    )
    expected, rows = similar.topk(7, dim=1)
    torch.testing.assert_close(torch.from_numpy(found.similarity), expected.float())
    assert torch.equal(torch.from_numpy(found.labels), bank.labels[rows])
    assert found.counts_per_class.tolist() == bank.labels.bincount(minlength=6).tolist()
    assert found.recall is None


def test_lists_reach_their_recall_and_agree_with_exact_search(monkeypatch):
    bank, queries = clusters(5000, seed=0), clusters(300, seed=1)
    monkeypatch.setattr(neighbours, "_CHUNK_BYTES", 1000 * 4 * bank.features.shape[1])
    exact = find_neighbours(bank, queries, k=20, num_classes=6)
    found = find_neighbours(bank, queries, k=20, num_classes=6, index="ivf")
    assert 0.95 <= found.recall <= 1
    assert overlap(found, exact) > 0.95
    options = KNNOptions(20)
    agree = vote(found, options=options) == vote(exact, options=options)
    assert agree.double().mean() > 0.95
    assert found.counts_per_class.tolist() == exact.counts_per_class.tolist()


def test_the_stated_recall_is_that_of_brute_force(monkeypatch):
    # One list is looked into, however little it finds.
    monkeypatch.setattr(neighbours, "_RECALL", 0.0)
    bank, queries = clusters(2000, seed=0), clusters(100, seed=1)
    asked = neighbours._unit_rows(queries, "")
    _, rows, recall = neighbours._search_lists(bank, torch.arange(2000), asked, k=10)
    similar = F.normalize(queries.features, dim=1) @ F.normalize(bank.features, dim=1).T
    exact = similar.topk(10, dim=1).indices
    hits = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), exact.tolist(), strict=True)]
    assert recall == pytest.approx(sum(hits) / 1000)
    assert 0.1 < recall < 0.95


def test_a_bank_mapped_from_a_file(tmp_path):
    bank, queries = clusters(3000, seed=0), clusters(50, seed=1)
    path = str(tmp_path / "bank")
    mapped = torch.from_file(path, shared=True, size=bank.features.numel(), dtype=torch.float32)
    mapped = mapped.view(bank.features.shape)
    mapped.copy_(bank.features)
    on_disk = Features(mapped, bank.labels, bank.index)
    found, expected = (
        find_neighbours(rows, queries, k=5, num_classes=6, index="ivf") for rows in (on_disk, bank)
    )
    assert found.labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize("k", [1, 9])
def test_banks_of_a_few_rows(k):
    bank = clusters(9, seed=0)
    found = find_neighbours(bank, bank, k=k, num_classes=6, index="ivf")
    assert found.labels.min() >= 0
    assert found.recall > 0.9
    assert found.labels[:, 0].tolist() == bank.labels.tolist()


def test_a_damaged_bank_is_named_wherever_the_row_stands(monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK_BYTES", 100 * 4 * 16)
    monkeypatch.setattr(neighbours, "_ROWS_PER_LIST", 1)
    bank = clusters(400, seed=0)
    bank.features[317] = float("nan")
    with pytest.raises(DataError, match=r"kNN bank: 1 feature rows .* row 317"):
        find_neighbours(bank, clusters(5, seed=1), k=5, num_classes=6, index="ivf")


@pytest.mark.parametrize("kind", ["weighted", "plain", "balanced"])
def test_k_is_chosen_on_held_out_rows_by_brute_force(kind):
    bank, ks = clusters(200, seed=4), (40, 3, 100, 10)
    held = held_out_rows(bank.labels, bank.index, share=0.2, seed=0)
    rest, asked = (
        Features(bank.features[rows], bank.labels[rows], bank.index[rows]) for rows in (~held, held)
    )
    expected = {}
    for k in sorted(ks):
        settings = {"num_classes": 6, "k": k, "temperature": 0.07, "vote": kind}
        right = torch.tensor(brute_force(rest, asked, **settings)) == asked.labels
        seen = asked.labels.unique()
        expected[k] = float(
            torch.stack([right[asked.labels == c].double().mean() for c in seen]).mean()
        )
    held_out = hold_out_of_bank(bank, k=max(ks), num_classes=6)
    chosen, points = choose_k(held_out, ks, options=KNNOptions(1, 0.07, kind))
    assert {p.k: p.held_out_accuracy for p in points} == pytest.approx(expected)
    assert chosen == KNNOptions(max(expected, key=expected.get), 0.07, kind)
    assert len(set(expected.values())) > 1


def test_k_is_chosen_on_validation_rows_by_brute_force():
    bank, asked, ks = clusters(200, seed=4), clusters(60, seed=9), (40, 3, 100)
    held_out = ask_bank(bank, asked, k=max(ks), num_classes=6)
    chosen, points = choose_k(held_out, ks, options=KNNOptions(1, 0.07, "weighted"))
    for point in points:
        settings = {"num_classes": 6, "k": point.k, "temperature": 0.07, "vote": "weighted"}
        right = torch.tensor(brute_force(bank, asked, **settings)) == asked.labels
        by_class = [right[asked.labels == c].double().mean() for c in asked.labels.unique()]
        assert point.held_out_accuracy == pytest.approx(float(torch.stack(by_class).mean()))
    assert len({point.held_out_accuracy for point in points}) > 1
    assert chosen.k == max(points, key=lambda point: point.held_out_accuracy).k


def test_what_cannot_choose_k_is_named():
    bank = clusters(50, seed=0)
    with pytest.raises(Exception, match=r"--knn-k: 45 .* images are left"):
        hold_out_of_bank(bank, k=45, num_classes=6)
    single = Features(bank.features[:3], torch.arange(3), bank.index[:3])
    with pytest.raises(DataError, match="no class has two images"):
        hold_out_of_bank(single, k=1, num_classes=3)
