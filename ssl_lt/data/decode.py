"""Any image file becomes RGB with 8 bits a channel, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ssl_lt.core.errors import DataError

# A quarter of a gigabyte of RGB: what Pillow calls a decompression bomb from here on.
MAX_PIXELS = 89_478_485


def read_image(path: Path) -> Image.Image:
    """Decodes an image file.

    Grey, palette and CMYK images are converted; 16 bits are scaled to 8, never clipped;
    transparent pixels are laid on white, as viewers show them; the EXIF rotation is applied; of an
    animation the first picture counts. A damaged file is never replaced or filled up.

    Returns:
        An image of mode RGB.

    Raises:
        DataError: not an image, empty, truncated, more than `MAX_PIXELS`, or pixels that have no
            known range (floating-point or 32 bits); names the file.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise DataError(f"{path}: {size} pixels, at most {MAX_PIXELS} are allowed")
            return _to_rgb(ImageOps.exif_transpose(image))
    except (DataError, MemoryError):
        raise
    # Pillow's readers raise nearly anything on damaged bytes.
    except Exception as error:
        raise DataError(f"{path}: {_reason(path, error)}") from error


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


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS} pixels"
    if path.is_file() and path.stat().st_size == 0:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return f"cannot be decoded: {' '.join(str(error).split())}"
