"""Which files are images: by their suffix, or else by what they begin with."""

from __future__ import annotations

import mimetypes
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# Pillow knows the suffix and needs other software to read the file, or cannot tell it from another
# kind: EPS runs Ghostscript, most .pcd files are point clouds.
_LEFT_TO_OTHERS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PCD", "WMF"})
# Raw files of cameras: most are TIFF by their first bytes, and Pillow reads the thumbnail in them.
_RAW = frozenset(
    {
        ".3fr", ".ari", ".arw", ".bay", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".drf",
        ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw",
        ".orf", ".pef", ".ptx", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw",
        ".x3f",
    }
)  # fmt: skip
# What viewers, network drives and archivers leave behind; never counted, nor read.
_JUNK = frozenset(
    {
        "thumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found",
        "__pycache__", "system volume information",
    }
)  # fmt: skip
# Copies that editors and downloads leave; an image among them is another's twin, or cut off.
_COPIES = ("~", ".bak", ".orig", "_original", ".old", ".tmp", ".temp", ".part", ".crdownload")
_TYPES = mimetypes.MimeTypes()


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of all formats that Pillow reads, in lower case and with their dot."""
    known = Image.registered_extensions()
    # Pillow opens MPO, the JPEGs of telephones with two images, as JPEG.
    readable = _readable_formats() | {"MPO"}
    return frozenset(suffix for suffix, kind in known.items() if kind in readable)


def suffix_of_format(kind: str) -> str:
    """The usual suffix of a format, without its dot, given Pillow's name of it."""
    usual = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}.get(kind, kind.lower())
    of_kind = sorted(s[1:] for s, its in Image.registered_extensions().items() if its == kind)
    return usual if usual in of_kind or not of_kind or kind == "MPO" else of_kind[0]


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or a by-product that nobody put there."""
    return name.startswith(".") or name.lower() in _JUNK


def suffix_of(name: str) -> str:
    """Suffix of a file that is no image, for people; "without suffix" where it has none."""
    suffix = Path(name).suffix.lower()
    return suffix if 1 < len(suffix) <= 16 else "without suffix"


def has_image_suffix(name: str) -> bool:
    """Whether the name is that of an image."""
    _, dot, suffix = name.rpartition(".")
    return bool(dot) and f".{suffix.lower()}" in image_suffixes()


def is_image(path: Path) -> bool:
    """Whether a file is an image: its suffix says so, or its first bytes where no suffix does.

    Files of types that are no images (text, archives, videos), and raw ones, are not opened.
    """
    if has_image_suffix(path.name):
        return True
    if path.suffix.lower() in _RAW:
        return False
    kind = _TYPES.guess_type(path.name)[0] or "image"
    is_copy = path.name.lower().endswith(_COPIES)
    return not is_copy and kind.startswith("image") and path.is_file() and _begins_as_image(path)


def _begins_as_image(path: Path) -> bool:
    # Formats without a signature would take any bytes for theirs.
    signed = [kind for kind in _readable_formats() if Image.OPEN[kind][1] is not None]
    try:
        with Image.open(path, formats=signed):
            return True
    except UnidentifiedImageError:
        return False
    except (Image.DecompressionBombError, PermissionError):
        return True  # and said, with its name, where it is read
    # Pillow's readers raise nearly anything on bytes that only begin as an image does.
    except Exception:
        return False


@cache
def _readable_formats() -> frozenset[str]:
    Image.init()
    return frozenset(Image.OPEN) - _LEFT_TO_OTHERS
