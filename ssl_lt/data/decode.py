"""Any image file becomes RGB with 8 bits a channel, or an error that names the file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ssl_lt.core.errors import DataError

# A quarter of a gigabyte of RGB: what Pillow calls a decompression bomb from here on.
MAX_PIXELS = 89_478_485
# Refused below, in one line and with a name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path) -> Image.Image:
    """Decodes an image file; see `decode_with_mode`.

    Raises:
        DataError: there is no such file, or what `decode_with_mode` says; names the file.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{path}: {reason}") from error
    return decode_image(blob, name=str(path))


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
    try:
        with Image.open(io.BytesIO(blob)) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise DataError(f"{name}: {size} pixels, at most {MAX_PIXELS} are allowed")
            return image.mode, _to_rgb(ImageOps.exif_transpose(image))
    except (DataError, MemoryError):
        raise
    # Pillow's readers raise nearly anything on damaged bytes.
    except Exception as error:
        raise DataError(f"{name}: {_reason(blob, error)}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


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
