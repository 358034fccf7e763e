"""Which test images a classifier has right, and which belong together, for a results file.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError


@dataclass(frozen=True)
class CorrectMask:
    """One bit a test image, class by class, within a class in the order of the test split.

    Attributes:
        test_sha256: fingerprint of the test split: equal means the very same images.
        right: the bits, 1 for a correct prediction, eight to a byte, as base64.
        tries: how many classifiers of the same images the bits are of, one after another.
    """

    test_sha256: str
    right: str
    tries: int = 1


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
    return CorrectMask(test_sha256, _packed(correct[order]))


def mean_correct(masks: Sequence[CorrectMask], *, num_images: int) -> CorrectMask | None:
    """The tries of several masks as one; None where they are not of the same test images."""
    if len({mask.test_sha256 for mask in masks}) != 1:
        return None
    bits = np.concatenate([_bits(mask, num_images) for mask in masks])
    return replace(masks[0], right=_packed(bits), tries=sum(mask.tries for mask in masks))


def unpack_correct(
    mask: CorrectMask, *, num_images: int
) -> NDArray[np.bool_] | NDArray[np.float64]:
    """(N,) which predictions are correct, class by class; of several tries, in which share.

    Raises:
        DataError: the bits are no base64, or are of another number of images.
    """
    bits = _bits(mask, num_images)
    if mask.tries == 1:
        return bits
    shares: NDArray[np.float64] = bits.reshape(mask.tries, num_images).mean(axis=0)
    return shares


def _packed(bits: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode("ascii")


def _bits(mask: CorrectMask, num_images: int) -> NDArray[np.bool_]:
    """(tries x N,) one try after another."""
    if mask.tries < 1:
        raise DataError(f"answers.tries: {mask.tries}, but at least 1 is needed")
    count = mask.tries * num_images
    content = _decoded(mask.right, "answers.right", -(-count // 8), num_images=num_images)
    return np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=count).astype(bool)


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
