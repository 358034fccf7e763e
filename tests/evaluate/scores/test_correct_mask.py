import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.scores.correct_mask import (
    CorrectMask,
    mean_correct,
    pack_correct,
    unpack_correct,
)


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 1000])
def test_comes_back_class_by_class(num_images):
    random = np.random.default_rng(num_images)
    labels = random.integers(0, 5, num_images)
    right = random.random(num_images) < 0.5
    packed = pack_correct(right, labels, test_sha256="abc")
    assert packed.test_sha256 == "abc"
    expected = [right[i] for c in range(5) for i in range(num_images) if labels[i] == c]
    assert unpack_correct(packed, num_images=num_images).tolist() == expected


def test_several_tries_are_kept_as_one():
    labels = np.array([1, 0, 1, 0, 0])
    tries = [np.array(list(bits)) == "1" for bits in ("11010", "10010", "00010")]
    masks = [pack_correct(right, labels, test_sha256="abc") for right in tries]
    mean = mean_correct([mean_correct(masks[:2], num_images=5), masks[2]], num_images=5)
    assert (mean.test_sha256, mean.tries) == ("abc", 3)
    # Class 0 first: images 1, 3 and 4, then 0 and 2.
    assert unpack_correct(mean, num_images=5).tolist() == [1 / 3, 1, 0, 2 / 3, 0]
    other = pack_correct(tries[0], labels, test_sha256="other")
    assert mean_correct([masks[0], other], num_images=5) is None
    with pytest.raises(DataError, match=r"answers\.tries: 0"):
        unpack_correct(CorrectMask("", "", tries=0), num_images=5)


def test_ten_thousand_images_are_small():
    packed = pack_correct(np.ones(10_000, bool), np.zeros(10_000, int), test_sha256="")
    assert len(packed.right) < 1700


def test_damaged():
    with pytest.raises(DataError, match=r"answers\.right: damaged"):
        unpack_correct(CorrectMask("", "??"), num_images=3)
    with pytest.raises(DataError, match=r"answers\.right: 1 bytes for 9 test images"):
        unpack_correct(CorrectMask("", "AA=="), num_images=9)
