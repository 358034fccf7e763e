"""Any image file becomes RGB with 8 bits a channel, or an error that names the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ssl_lt.core.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
# Where it is not Pillow's name of the format.
_SUFFIX_OF = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}
# A quarter of a gigabyte of RGB: what Pillow calls a decompression bomb from here on.
MAX_PIXELS = 89_478_485
# Refused below, in one line and with a name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_SWAPPED = {5, 6, 7, 8}  # EXIF orientations that swap height and width


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
    try:
        with Image.open(io.BytesIO(blob)) as image:
            kind = str(image.format)
    # Pillow's readers raise nearly anything on damaged bytes.
    except Exception as error:
        raise DataError(f"{name}: {'not an image' if blob else 'empty file'}") from error
    return _SUFFIX_OF.get(kind, kind.lower())


class EncodedImage:
    """An image file of which the size is known; the pixels of a JPEG are not decoded yet.

    Grey, palette and CMYK images are converted; 16 bits are scaled to 8, never clipped;
    transparent pixels are laid on white, as viewers show them; the EXIF rotation is applied; of an
    animation the first image counts. A damaged file is never replaced or filled up.

    Attributes:
        mode: Pillow's, as stored, such as "L" or "CMYK".
        height: of the upright image.
        width: of the upright image.
    """

    def __init__(self, blob: bytes, *, name: str) -> None:
        """Reads the header.

        Args:
            blob: the encoded bytes.
            name: of the file, or of the row it stands in; for errors.

        Raises:
            DataError: not an image, empty, more than `MAX_PIXELS`; names the image.
        """
        self._blob, self._name = blob, name
        with self._named_errors():
            image: Image.Image = Image.open(io.BytesIO(blob))
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise DataError(f"{name}: {size} pixels, at most {MAX_PIXELS} are allowed")
            self.mode = image.mode
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
                32 bits); names the image.
        """
        with self._named_errors():
            if self._is_jpeg:
                ImageOps.exif_transpose(self._image, in_place=True)
            return _to_rgb(self._image)

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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (modes I;16... and I) to 8 bits: 65535 becomes 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels have no known range: save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _reason(blob: bytes, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS} pixels"
    if not blob:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return f"cannot be decoded: {' '.join(str(error).split())}"
