import numpy as np
import pytest

from ssl_lt.evaluate.neighbours.knn import KNNOptions, vote_with_shares
from ssl_lt.evaluate.neighbours.search import Neighbours


@pytest.mark.parametrize("kind", ["weighted", "plain", "balanced"])
def test_share_of_the_winner_against_a_loop(kind):
    random = np.random.default_rng(0)
    similarity = -np.sort(-random.uniform(0, 1, (20, 9)), axis=1).astype(np.float32)
    labels, counts = random.integers(0, 4, (20, 9)), np.array([50, 20, 5, 1])
    found = Neighbours(similarity, labels, counts)
    options = KNNOptions(k=7, temperature=0.2, vote=kind)
    classes, shares = vote_with_shares(found, options=options)
    for q in range(20):
        score = np.zeros(4)
        for s, c in zip(similarity[q, :7], labels[q, :7], strict=True):
            weight = {"plain": 1.0, "weighted": np.exp(s / 0.2)}.get(kind)
            score[c] += np.exp(s / 0.2) / counts[c] if weight is None else weight
        share = score[classes[q]] / score.sum()
        # A plain vote gives up to half a vote more to part equal numbers.
        assert float(shares[q]) == pytest.approx(share, abs=0.5 / 7 if kind == "plain" else 1e-5)
