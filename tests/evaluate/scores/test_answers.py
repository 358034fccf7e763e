import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.scores.answers import Answers, pack_answers, unpack_answers


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 1000])
def test_comes_back_class_by_class(num_images):
    random = np.random.default_rng(num_images)
    labels = random.integers(0, 5, num_images)
    right = random.random(num_images) < 0.5
    packed = pack_answers(right, labels, test_sha256="abc")
    assert packed.test_sha256 == "abc"
    expected = [right[i] for c in range(5) for i in range(num_images) if labels[i] == c]
    assert unpack_answers(packed, num_images=num_images).tolist() == expected


def test_ten_thousand_images_are_small():
    packed = pack_answers(np.ones(10_000, bool), np.zeros(10_000, int), test_sha256="")
    assert len(packed.right) < 1700


def test_damaged():
    with pytest.raises(DataError, match=r"answers\.right: damaged"):
        unpack_answers(Answers("", "??"), num_images=3)
    with pytest.raises(DataError, match=r"answers\.right: 1 bytes for 9 test images"):
        unpack_answers(Answers("", "AA=="), num_images=9)
