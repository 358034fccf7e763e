import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.scores.correct_mask import CorrectMask, pack_correct, unpack_correct


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 1000])
def test_comes_back_class_by_class(num_images):
    random = np.random.default_rng(num_images)
    labels = random.integers(0, 5, num_images)
    right = random.random(num_images) < 0.5
    packed = pack_correct(right, labels, test_sha256="abc")
    assert packed.test_sha256 == "abc"
    expected = [right[i] for c in range(5) for i in range(num_images) if labels[i] == c]
    assert unpack_correct(packed, num_images=num_images).tolist() == expected


def test_ten_thousand_images_are_small():
    packed = pack_correct(np.ones(10_000, bool), np.zeros(10_000, int), test_sha256="")
    assert len(packed.right) < 1700


def test_damaged():
    with pytest.raises(DataError, match=r"answers\.right: damaged"):
        unpack_correct(CorrectMask("", "??"), num_images=3)
    with pytest.raises(DataError, match=r"answers\.right: 1 bytes for 9 test images"):
        unpack_correct(CorrectMask("", "AA=="), num_images=9)
