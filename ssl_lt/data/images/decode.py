"""Any image file becomes RGB with 8 bits a channel, or an error that names the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ssl_lt.core.errors import DataError

# A quarter of a gigabyte of RGB: what Pillow calls a decompression bomb from here on.
MAX_PIXELS = 89_478_485
# Refused below, in one line and with a name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# EXIF orientations under which a stored picture's right or lower edge becomes the upright one's
# left or upper edge, and those that swap height and width.
_LEFT_WAS_AN_END, _TOP_WAS_AN_END, _SWAPPED = {2, 3, 6, 7}, {3, 4, 7, 8}, {5, 6, 7, 8}


class ReadableFile(Protocol):
    """A path, or what is read like one; its text is what people know it by."""

    def read_bytes(self) -> bytes:
        """All that it holds; raises OSError."""


def read_image(path: ReadableFile) -> Image.Image:
    """Decodes an image file; see `decode_with_mode`.

    Raises:
        DataError: as `read_bytes` and `decode_with_mode` say; names the file.
    """
    return decode_image(read_bytes(path), name=str(path))


def read_bytes(path: ReadableFile) -> bytes:
    """What a file holds.

    Raises:
        DataError: there is no such file, or it cannot be read; names it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{path}: {reason}") from error


def decode_image(blob: bytes, *, name: str) -> Image.Image:
    """`decode_with_mode` without the mode."""
    return decode_with_mode(blob, name=name)[1]


def decode_with_mode(blob: bytes, *, name: str) -> tuple[str, Image.Image]:
    """Decodes what an image file holds.

    Grey, palette and CMYK images are converted; 16 bits are scaled to 8, never clipped;
    transparent pixels are laid on white, as viewers show them; the EXIF rotation is applied; of an
    animation the first picture counts. A damaged file is never replaced or filled up.

    Args:
        blob: the encoded bytes.
        name: of the file, or of the row it stands in; for errors.

    Returns:
        Pillow's mode as stored, such as "L" or "CMYK", and an image of mode RGB.

    Raises:
        DataError: not an image, empty, truncated, more than `MAX_PIXELS`, or pixels that have no
            known range (floating-point or 32 bits); names the image.
    """
    image = EncodedImage(blob, name=name)
    return image.mode, image.decode().pixels


@dataclass(frozen=True)
class Decoded:
    """An upright image, or a smaller copy of it.

    Attributes:
        pixels: of mode RGB.
        shrink: s; a pixel stands for s x s of the image.
        top: where the image's upper edge lies in `pixels`, in pixels of it: 0 <= top < 1. A side
            that s does not divide ends with a pixel of which the image covers a part, and EXIF may
            have turned that end into the upper edge.
        left: likewise of the left edge.
    """

    pixels: Image.Image
    shrink: int = 1
    top: float = 0.0
    left: float = 0.0


class EncodedImage:
    """An image file of which the size is known; the pixels of a JPEG are not yet decoded.

    Attributes:
        mode: Pillow's, as stored.
        height: of the upright image.
        width: likewise.
    """

    def __init__(self, blob: bytes, *, name: str) -> None:
        """Reads the header; arguments and errors are those of `decode_with_mode`."""
        self._blob, self._name = blob, name
        with self._named_errors():
            image: Image.Image = Image.open(io.BytesIO(blob))
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise DataError(f"{name}: {size} pixels, at most {MAX_PIXELS} are allowed")
            self.mode = image.mode
            self._orientation = 1
            self._is_jpeg = isinstance(image, JpegImageFile)
            if self._is_jpeg:
                self._orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            else:  # not every format knows before decoding how it is turned
                image = ImageOps.exif_transpose(image)
            self._image = image
            self.width, self.height = image.size
            if self._orientation in _SWAPPED:
                self.height, self.width = image.size

    def decode(self, *, shrink: int = 1) -> Decoded:
        """The upright image in RGB; to be called once.

        A JPEG is decoded `shrink` times smaller, from the lower frequencies of its blocks: about
        the mean of `shrink` x `shrink` pixels, and as equal on every machine as full decoding is
        (the same for every build of libjpeg-turbo). Other formats come in full.

        Args:
            shrink: 1, 2, 4 or 8; at most the shorter side.

        Raises:
            DataError: as `decode_with_mode` says.
        """
        image, drafted = self._image, None
        with self._named_errors():
            if self._is_jpeg:
                if shrink > 1:
                    drafted = image.draft(None, (image.width // shrink, image.height // shrink))
                ImageOps.exif_transpose(image, in_place=True)
            pixels = _to_rgb(image)
        if drafted is None:
            return Decoded(pixels)
        top = left = 0.0
        if self._orientation in _TOP_WAS_AN_END:
            top = pixels.height - self.height / shrink
        if self._orientation in _LEFT_WAS_AN_END:
            left = pixels.width - self.width / shrink
        return Decoded(pixels, shrink, top, left)

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
