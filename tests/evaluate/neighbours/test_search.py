import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import DataError
from ssl_lt.data.splits.hold_out import held_out_rows
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions
from ssl_lt.evaluate.neighbours.knn_sweep import choose_k, hold_out_of_bank
from ssl_lt.evaluate.neighbours.search import find_neighbours, nearest_images
from tests.evaluate.neighbours.test_knn import brute_force, clusters


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


def test_nearest_images_against_a_loop():
    bank, queries = clusters(30, seed=0), clusters(4, seed=1)
    similarity, nearest = nearest_images(bank, queries, k=3)
    for i, query in enumerate(queries.features):
        cosines = [float(query @ image / query.norm() / image.norm()) for image in bank.features]
        expected = sorted(range(30), key=lambda j: -cosines[j])[:3]
        assert nearest[i].tolist() == expected
        assert similarity[i].tolist() == pytest.approx([cosines[j] for j in expected], abs=1e-6)


@pytest.mark.parametrize("k", [1, 9])
def test_banks_of_a_few_images(k):
    bank = clusters(9, seed=0)
    found = find_neighbours(bank, bank, k=k, num_classes=6)
    assert found.labels.shape == (9, k)
    assert found.labels[:, 0].tolist() == bank.labels.tolist()


def test_a_damaged_bank_is_named():
    bank = clusters(400, seed=0)
    bank.features[317] = float("nan")
    with pytest.raises(DataError, match=r"kNN bank: 1 feature rows .* row 317"):
        find_neighbours(bank, clusters(5, seed=1), k=5, num_classes=6)


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
    judges = hold_out_of_bank(bank, k=max(ks), num_classes=6)
    chosen, scores = choose_k(*judges, ks, options=KNNOptions(1, 0.07, kind))
    assert scores == pytest.approx(expected)
    assert chosen == KNNOptions(max(expected, key=expected.get), 0.07, kind)
    assert len(set(expected.values())) > 1


def test_k_is_chosen_on_validation_rows_by_brute_force():
    bank, asked, ks = clusters(200, seed=4), clusters(60, seed=9), (40, 3, 100)
    judges = find_neighbours(bank, asked, k=max(ks), num_classes=6), asked.labels
    chosen, scores = choose_k(*judges, ks, options=KNNOptions(1, 0.07, "weighted"))
    for k, score in scores.items():
        settings = {"num_classes": 6, "k": k, "temperature": 0.07, "vote": "weighted"}
        right = torch.tensor(brute_force(bank, asked, **settings)) == asked.labels
        by_class = [right[asked.labels == c].double().mean() for c in asked.labels.unique()]
        assert score == pytest.approx(float(torch.stack(by_class).mean()))
    assert len(set(scores.values())) > 1
    assert chosen.k == max(scores, key=scores.get)


def test_what_cannot_choose_k_is_named():
    bank = clusters(50, seed=0)
    with pytest.raises(Exception, match=r"--knn-k: 45 .* images are left"):
        hold_out_of_bank(bank, k=45, num_classes=6)
    single = Features(bank.features[:3], torch.arange(3), bank.index[:3])
    with pytest.raises(DataError, match="no class has two images"):
        hold_out_of_bank(single, k=1, num_classes=3)
