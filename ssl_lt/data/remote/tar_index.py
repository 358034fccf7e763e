"""Where the images of a tar shard lie: read once, then any image is one read away."""

from __future__ import annotations

import hashlib
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.disk.files import write_atomically
from ssl_lt.core.errors import DataError, shortened
from ssl_lt.data.images.formats import has_image_suffix

LABEL_SUFFIX = "cls"
INDEX = "index.json"  # of a packed folder
INDEX_SUFFIX = ".index.npz"  # of the index that is packed beside a shard
BLOCK = 512  # tar counts in these

# As WebDataset splits a member's name: the sample's key, then all suffixes.
_MEMBER = re.compile(r"(?P<key>(?:.*/)?[^/.]+)\.(?P<suffix>[^/]+)")


@dataclass(frozen=True, eq=False)
class TarIndex:
    """The n samples of a shard, in its order.

    Attributes:
        offsets: (n,) int64, of the first byte of each image in the file.
        sizes: (n,) int64, bytes of each image.
        ids: (n,) int64, 64 bits of a digest of each sample's key and size.
        labels: (n,) what stands in each sample's label, as fixed-width bytes; empty: has none.
    """

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    ids: NDArray[np.int64]
    labels: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True)
class Suffixes:
    """Which members of a sample count.

    Attributes:
        image: of the image; None: the one that is known as an image format.
        label: of the label, a name or a number as text.
    """

    image: str | None = None
    label: str = LABEL_SUFFIX


def index_tar(file: IO[bytes], suffixes: Suffixes, *, name: str) -> TarIndex:
    """Walks through the headers of an uncompressed tar file.

    Members `KEY.SUFFIX` that follow each other with the same key are one sample. What WebDataset
    leaves out is left out: hidden members, and those whose name begins with two underscores.

    Args:
        file: open for reading; where it stands does not matter and is not kept.
        suffixes: which members count.
        name: of the shard, for errors.

    Raises:
        DataError: not a tar file, or compressed; cut off or damaged; no sample, a key that comes
            twice, a sample without an image or with several; names shard and key.
        OSError: it cannot be read.
    """
    offsets, sizes, ids, labels = [], [], [], []
    seen: set[str] = set()
    for key, members in _samples(file, name):
        if key in seen:
            raise DataError(f"{name}: {key} comes twice")
        seen.add(key)
        image = _image(members, suffixes.image, where=f"{name}: {key}")
        offsets.append(image.offset_data)
        sizes.append(image.size)
        digest = hashlib.blake2b(f"{key} {image.size}".encode(), digest_size=8).digest()
        ids.append(int.from_bytes(digest, "little", signed=True))
        label = members.get(suffixes.label)
        labels.append(b"" if label is None else _content(file, label).strip())
    if not offsets:
        raise DataError(f"{name}: has no images")
    return TarIndex(
        np.array(offsets, np.int64), np.array(sizes, np.int64), np.array(ids), np.array(labels)
    )


def member_name(header: bytes) -> str:
    """Name in a member's header, cut to its last 100 bytes or less where it is longer."""
    return header[:100].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def write_index(path: Path, index: TarIndex, *, tar_bytes: int) -> None:
    """Writes an index; `tar_bytes` is the size of its shard.

    Raises:
        DiskError: it cannot be written.
    """

    def write(file: IO[bytes]) -> None:
        np.savez(file, tar_bytes=np.int64(tar_bytes), **vars(index))

    write_atomically(path, write)


def read_index(file: IO[bytes], *, tar_bytes: int) -> TarIndex | None:
    """What `write_index` wrote; None where it is damaged, or of a file of another size."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            if stored["tar_bytes"] != tar_bytes:
                return None
            return TarIndex(*(stored[name] for name in TarIndex.__annotations__))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _samples(file: IO[bytes], name: str) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Key and members by suffix of one sample after another."""
    current, end = "", 0
    members: dict[str, tarfile.TarInfo] = {}
    for member in _members(file, name):
        end = member.offset_data + -(-member.size // BLOCK) * BLOCK
        match = _MEMBER.fullmatch(member.name)
        if not member.isfile() or match is None or Path(member.name).name.startswith("__"):
            continue
        if match["key"] != current:
            if members:
                yield current, members
            current, members = match["key"], {}
        suffix = match["suffix"].lower()
        if suffix in members:
            raise DataError(f"{name}: {member.name} comes twice")
        members[suffix] = member
    file.seek(end)
    closing = file.read(BLOCK)
    # tarfile takes a header that is cut or damaged for the end of the archive.
    if len(closing) < BLOCK:
        raise DataError(f"{name}: is cut off: there is no end of archive after byte {end}")
    if any(closing):
        raise DataError(f"{name}: is damaged: there is no header at byte {end}")
    if members:
        yield current, members


def _members(file: IO[bytes], name: str) -> Iterator[tarfile.TarInfo]:
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                yield member
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
    except tarfile.TarError as error:
        raise DataError(f"{name}: not an uncompressed tar file: {error}") from error


def _image(
    members: Mapping[str, tarfile.TarInfo], suffix: str | None, *, where: str
) -> tarfile.TarInfo:
    known = [s for s in members if (_is_known(s) if suffix is None else s == suffix.lower())]
    if len(known) == 1:
        return members[known[0]]
    found = "several images" if known else "no image"
    raise DataError(f"{where} has {found} among {shortened(list(members))} (--image-column SUFFIX)")


def _is_known(suffix: str) -> bool:
    return "." not in suffix and has_image_suffix(f"a.{suffix}")


def _content(file: IO[bytes], member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)
