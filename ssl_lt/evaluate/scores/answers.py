"""Which test images were answered rightly: a bit an image, small enough for a results file.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError


@dataclass(frozen=True)
class Answers:
    """One bit a test image, class by class, within a class in the order of the test split.

    Attributes:
        test_sha256: fingerprint of the test split: equal means the very same images.
        right: the bits, 1 for a right answer, eight to a byte, as base64.
    """

    test_sha256: str
    right: str


def pack_answers(
    right: NDArray[np.bool_], labels: NDArray[np.int64], *, test_sha256: str
) -> Answers:
    """The answers of a classifier.

    Args:
        right: (N,) whether each image was answered rightly, in the order of the test split.
        labels: (N,) true classes.
        test_sha256: fingerprint of the test split.
    """
    order = np.argsort(labels, kind="stable")
    packed = np.packbits(right[order]).tobytes()
    return Answers(test_sha256, base64.b64encode(packed).decode("ascii"))


def unpack_answers(answers: Answers, *, num_images: int) -> NDArray[np.bool_]:
    """(N,) which images were right, class by class.

    Raises:
        DataError: no base64, or bits for another number of images.
    """
    try:
        packed = np.frombuffer(base64.b64decode(answers.right, validate=True), dtype=np.uint8)
    except ValueError as error:
        raise DataError("answers.right: damaged, not base64") from error
    if packed.size != -(-num_images // 8):
        raise DataError(f"answers.right: {packed.size} bytes for {num_images} test images")
    return np.unpackbits(packed, count=num_images).astype(bool)
