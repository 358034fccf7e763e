import numpy as np

from ssl_lt.evaluate.features.feature_map import feature_map


def clusters(*, num=40, dimensions=16):
    random = np.random.default_rng(0)
    centres = 5 * np.eye(3, dimensions)
    labels = np.arange(num) % 3
    noise = 0.2 * random.normal(size=(num, dimensions))
    return (centres[labels] + noise).astype(np.float32), labels


def test_classes_that_are_apart_stay_apart():
    features, labels = clusters()
    places = feature_map(features, seed=0)
    assert places.shape == (40, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    assert np.ptp(places, axis=0).max() > 0.999
    away = np.linalg.norm(places[:, None] - places, axis=2) + np.eye(40) * 9
    assert (labels[away.argmin(axis=1)] == labels).all()


def test_the_same_rows_give_the_same_map_at_any_length():
    features, _ = clusters()
    places = feature_map(features, seed=0)
    # Powers of two, so that norms are the same to the last bit: t-SNE magnifies any rounding.
    lengths = (2.0 ** (np.arange(40) - 20)).astype(np.float32)[:, None]
    np.testing.assert_array_equal(feature_map(features * lengths, seed=0), places)


def test_collapsed_features_lie_in_the_middle():
    same = np.ones((12, 8), dtype=np.float32)
    assert (feature_map(same, seed=0) == 0.5).all()
    assert (feature_map(0 * same, seed=0) == 0.5).all()


def test_one_dimension_and_few_rows():
    line = np.array([[1.0], [-1.0]] * 5, dtype=np.float32)
    assert np.isfinite(feature_map(line, seed=0)).all()
