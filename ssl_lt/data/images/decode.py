"""Any image file becomes RGB with 8 bits a channel, or an error that names the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.formats import suffix_of_format

# A quarter of a gigabyte of RGB: what Pillow calls a decompression bomb from here on.
MAX_PIXELS = 89_478_485
# Refused below, in one line and with a name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Editors put megabytes of text into a PNG, which nobody here reads.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

_CUT = ";16"  # in modes of colours of 16 bits
_SWAPPED = {5, 6, 7, 8}  # EXIF orientations that swap height and width


@dataclass(frozen=True)
class Decoding:
    """How the images of a data set are decoded.

    Attributes:
        value_range: stored values that become 0 and 255; what is beyond them becomes the same.
            None: 8 bits as they are, 0 ... 65535 for grey of 16 bits, and no others.
        max_pixels: of an image, more are refused; 0: any number.
    """

    value_range: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS


AS_STORED = Decoding()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Names a file in a DataError where it is not there or cannot be read."""
    try:
        yield
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{path}: {reason}") from error


def read_bytes(stored: bytes | Path) -> bytes:
    """What an image file holds, given that or its path.

    Raises:
        DataError: there is no such file, or it cannot be read; names it.
    """
    if isinstance(stored, bytes):
        return stored
    with reading(stored):
        return stored.read_bytes()


def image_suffix(blob: bytes, *, name: str) -> str:
    """Suffix of the format that an image's first bytes say; the rest is not looked at.

    Raises:
        DataError: not an image; names it.
    """
    _let_pillow_read(0)
    try:
        with Image.open(io.BytesIO(blob)) as image:
            return suffix_of_format(str(image.format))
    # Pillow's readers raise nearly anything on damaged bytes.
    except Exception as error:
        raise DataError(f"{name}: {'not an image' if blob else 'empty file'}") from error


class EncodedImage:
    """An image file of which the size is known; the pixels of a JPEG are not decoded yet.

    Grey, palette and CMYK images are converted; 16 bits are scaled to 8 as `Decoding` says;
    transparent pixels are laid on white, as viewers show them; the EXIF rotation is applied; of an
    animation the first image counts. A damaged file is never replaced or filled up.

    Attributes:
        mode: Pillow's, as stored, such as "L" or "CMYK"; "RGB;16" and the like for colours of 16
            bits, of which Pillow reads the upper eight.
        height: of the upright image.
        width: of the upright image.
    """

    def __init__(self, blob: bytes, *, name: str, decoding: Decoding = AS_STORED) -> None:
        """Reads the header.

        Args:
            blob: the encoded bytes.
            name: of the file, or of the row it stands in; for errors.
            decoding: of the data set.

        Raises:
            DataError: not an image, empty, too many pixels; names the image.
        """
        self._blob, self._name, self._decoding = blob, name, decoding
        limit = decoding.max_pixels
        _let_pillow_read(limit)
        with self._named_errors():
            image: Image.Image = Image.open(io.BytesIO(blob))
            if 0 < limit < image.width * image.height:
                size = f"{image.width} x {image.height}"
                raise DataError(
                    f"{name}: {size} pixels, at most {limit} are allowed (--max-image-mpix)"
                )
            self.mode = _mode(image)
            orientation = 1
            self._is_jpeg = isinstance(image, JpegImageFile)
            if self._is_jpeg:
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            else:  # not every format knows before decoding how it is turned
                image = ImageOps.exif_transpose(image)
            self._image = image
            self.width, self.height = image.size
            if orientation in _SWAPPED:
                self.height, self.width = image.size

    def decode(self) -> Image.Image:
        """The upright image in RGB; to be called once.

        Raises:
            DataError: truncated or damaged, or pixels that have no known range (floating-point or
                32 bits), or another than `Decoding` says; names the image.
        """
        with self._named_errors():
            if self._is_jpeg:
                ImageOps.exif_transpose(self._image, in_place=True)
            return _decoded(self._image, self.mode, self._decoding)

    def deep_values(self) -> NDArray[Any] | None:
        """(H, W) or (H, W, C) values as stored, of an image of more than 8 bits; None of others.

        Raises:
            DataError: truncated or damaged; names the image.
        """
        with self._named_errors():
            if self._image.mode[0] in "IF":
                return np.asarray(self._image)
            if self.mode.endswith(_CUT):
                return np.asarray(self._image).astype(np.uint16) * 257
        return None

    def decode_half(self) -> Image.Image:
        """A JPEG at half its height and width, rounded up; other formats in full.

        It is decoded from the lower frequencies of its blocks: a pixel is about the mean of 2 x 2,
        and as equal on every machine as full decoding is (the same for every build of
        libjpeg-turbo).

        Raises:
            DataError: as `decode` says.
        """
        with self._named_errors():
            if self._is_jpeg:
                self._image.draft(None, (self._image.width // 2, self._image.height // 2))
        return self.decode()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (DataError, MemoryError):
            raise
        # Pillow's readers raise nearly anything on damaged bytes.
        except Exception as error:
            raise DataError(f"{self._name}: {_reason(self._blob, error)}") from error


def as_rgb(image: Image.Image, decoding: Decoding = AS_STORED) -> Image.Image:
    """An image that is open already, as `EncodedImage` decodes its file.

    Raises:
        DataError: pixels that have no known range, or another than `decoding` says.
    """
    mode = _mode(image)  # which is not known any more once it is loaded
    try:
        return _decoded(ImageOps.exif_transpose(image), mode, decoding)
    except ValueError as error:
        raise DataError(f"{getattr(image, 'filename', '') or 'image'}: {error}") from error


def _decoded(image: Image.Image, mode: str, decoding: Decoding) -> Image.Image:
    """RGB of 8 bits of an upright image, given its mode as stored."""
    value_range = decoding.value_range
    if image.mode[0] in "IF":
        return _from_deep_grey(image, value_range).convert("RGB")
    image = _to_rgb(image)
    return image if value_range is None else _stretch(image, mode, value_range)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image: Image.Image, value_range: tuple[float, float] | None) -> Image.Image:
    """Grey of more than 8 bits (modes I;16..., I and F) to 8: by default 65535 becomes 255."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise ValueError("has pixels that are no finite numbers")
    if value_range is not None:
        first, last = value_range
        scaled = (values.astype(np.float64) - first) * (255 / (last - first))
        return Image.fromarray((scaled.clip(0, 255) + 0.5).astype(np.uint8))
    if image.mode == "F" or low < 0 or high > 65535:
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise ValueError(
            f"{kind} pixels ({low:g} to {high:g}) have no known range: give --value-range LOW HIGH "
            "of the whole data set"
        )
    return Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))


def _stretch(image: Image.Image, mode: str, value_range: tuple[float, float]) -> Image.Image:
    """RGB of 8 bits, where the range is one of 8 bits too."""
    low, high = value_range
    if high > 255 or mode.endswith(_CUT):
        bits = f"16-bit colours ({mode})" if mode.endswith(_CUT) else f"8 bits a channel ({mode})"
        raise ValueError(f"has {bits}, for which --value-range {low:g} {high:g} is not")
    scaled = (np.arange(256) - low) * (255 / (high - low))
    return image.point((scaled.clip(0, 255) + 0.5).astype(np.uint8).tolist() * 3)


def _mode(image: Image.Image) -> str:
    """Mode with the bits that Pillow drops: its raw mode is the first argument of a decoder."""
    for tile in getattr(image, "tile", ()):
        raw = tile[3] if isinstance(tile[3], str) else next(iter(tile[3] or ()), "")
        if _CUT in str(raw) and image.mode[0] != "I":
            return image.mode + _CUT
    return image.mode


def _let_pillow_read(max_pixels: int) -> None:
    """Raises Pillow's own limit where ours is higher; it is one for the whole process."""
    own = Image.MAX_IMAGE_PIXELS
    if own is not None and not 0 < max_pixels <= own:
        Image.MAX_IMAGE_PIXELS = max_pixels or None


def _reason(blob: bytes, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels (--max-image-mpix)"
    if not blob:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return f"cannot be decoded: {' '.join(str(error).split())}"
