"""Which test images a classifier has right, and which belong together, for a results file.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError


@dataclass(frozen=True)
class CorrectMask:
    """One bit a test image, class by class, within a class in the order of the test split.

    Attributes:
        test_sha256: fingerprint of the test split: equal means the very same images.
        right: the bits, 1 for a correct prediction, eight to a byte, as base64.
    """

    test_sha256: str
    right: str


def pack_correct(
    correct: NDArray[np.bool_], labels: NDArray[np.int64], *, test_sha256: str
) -> CorrectMask:
    """The mask of a classifier.

    Args:
        correct: (N,) whether each prediction is correct, in the order of the test split.
        labels: (N,) true classes.
        test_sha256: fingerprint of the test split.
    """
    order = np.argsort(labels, kind="stable")
    packed = np.packbits(correct[order]).tobytes()
    return CorrectMask(test_sha256, base64.b64encode(packed).decode("ascii"))


def unpack_correct(mask: CorrectMask, *, num_images: int) -> NDArray[np.bool_]:
    """(N,) which predictions are correct, class by class.

    Raises:
        DataError: the bits are no base64, or are of another number of images.
    """
    content = _decoded(mask.right, "answers.right", -(-num_images // 8), num_images=num_images)
    packed = np.frombuffer(content, dtype=np.uint8)
    return np.unpackbits(packed, count=num_images).astype(bool)


def pack_groups(group_ids: NDArray[np.int64], labels: NDArray[np.int64]) -> str:
    """Numbers of groups of test images, in the order of `CorrectMask.right`, as base64 of int32.

    Args:
        group_ids: (N,) equal where images belong together, in the order of the test split.
        labels: (N,) true classes.
    """
    order = np.argsort(labels, kind="stable")
    numbers = np.unique(group_ids[order], return_inverse=True)[1]
    return base64.b64encode(numbers.astype("<i4").tobytes()).decode("ascii")


def unpack_groups(packed: str, *, num_images: int) -> NDArray[np.int64]:
    """(N,) numbers of groups, class by class.

    Raises:
        DataError: it is no base64, or of another number of images.
    """
    content = _decoded(packed, "test_groups", 4 * num_images, num_images=num_images)
    return np.frombuffer(content, dtype="<i4").astype(np.int64)


def _decoded(text: str, field: str, num_bytes: int, *, num_images: int) -> bytes:
    """What a field holds, if there is as much as the test images need."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(f"{field}: damaged, not base64") from error
    if len(content) != num_bytes:
        raise DataError(f"{field}: {len(content)} bytes for {num_images} test images")
    return content
