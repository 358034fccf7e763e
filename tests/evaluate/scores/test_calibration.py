import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.scores.calibration import calibration

GROUPS = [Groups("made up", (0, 1), (2,), (9,))]


def slow_error(confidence, right, num_bins=15):
    """Guo et al., a bin and an image after the other."""
    total = 0.0
    for m in range(1, num_bins + 1):
        low, high = (m - 1) / num_bins, m / num_bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (m == 1 and c == 0)]
        if inside:
            gap = np.mean([right[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


def drawn(num_images=500):
    random = np.random.default_rng(0)
    confidence = random.random(num_images)
    return confidence, random.random(num_images) < confidence**2, random.integers(0, 4, num_images)


def test_against_a_loop_over_bins_and_images():
    confidence, right, labels = drawn()
    found = calibration(confidence, right, labels, groups=GROUPS)
    assert found.error == pytest.approx(slow_error(confidence, right), rel=1e-12)
    assert found.confidence == pytest.approx(confidence.mean())
    (group,) = found.groups
    for name, members in (("many", [0, 1]), ("medium", [2])):
        mask = np.isin(labels, members)
        assert getattr(group, name) == pytest.approx(slow_error(confidence[mask], right[mask]))
    assert group.few is None
    order = np.random.default_rng(1).permutation(500)
    again = calibration(confidence[order], right[order], labels[order])
    assert again.error == pytest.approx(found.error)


def test_edges_belong_to_the_bin_below():
    # Bins [0, 1/3], (1/3, 2/3], (2/3, 1]: the first two images share one.
    confidence, right = np.array([0.0, 1 / 3, 2 / 3, 1.0]), np.array([False, True, False, True])
    found = calibration(confidence, right, np.zeros(4, int), num_bins=3)
    assert found.error == pytest.approx((2 / 3 + 2 / 3 + 0) / 4)


def test_known_values():
    sure = np.ones(10, np.float32)
    right = np.arange(10) < 7
    assert calibration(sure, right, np.zeros(10, int)).error == pytest.approx(0.3)
    assert calibration(sure * np.float32(0.7), right, np.zeros(10, int)).error < 1e-6


def test_what_is_no_probability():
    ok = np.ones(2, bool)
    for bad in (1.5, -0.1, np.nan):
        with pytest.raises(DataError, match="not between 0 and 1"):
            calibration(np.array([0.5, bad]), ok, np.zeros(2, int))
    with pytest.raises(DataError, match="one of each a test image"):
        calibration(np.ones(3), ok, np.zeros(2, int))
