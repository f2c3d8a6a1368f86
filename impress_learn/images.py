"""A person's own image files -> pixels as a bank's network takes them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from impress_format.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and for each folder the image files in it and below, sorted.

    Raises:
        DataError: a folder has no image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not inside:
            raise DataError(f"{path} holds no image ({', '.join(SUFFIXES)})")
        found += inside
    return found


def read_image(path: Path, input_shape: tuple[int, int, int]) -> Tensor:
    """uint8 (C, H, W): turned upright, grey or RGB, the shorter side resized to fit, the middle cut out.

    Transparent parts become black; 16 bits a channel become 8.

    Raises:
        DataError: no such file, or no image that can be read.
    """
    channels, height, width = input_shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                image = _eight_bits(image)
        image = image.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    # Decoders of two dozen formats have as many ways to refuse.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise DataError(f"{path}: no image that can be read ({error or type(error).__name__})") from error
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def _eight_bits(image: Image.Image) -> Image.Image:
    """The same image without palette, alpha, or more than 8 bits a channel."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        # Pillow opens 16-bit grey PNG and TIFF as I;16 or I; a float image is taken to be in 0 ... 1.
        scaled = values * 255.0 if image.mode == "F" else values / (257.0 if values.max(initial=0.0) > 255 else 1.0)
        return Image.fromarray(np.clip(scaled.round(), 0, 255).astype(np.uint8))
    if image.mode in {"P", "PA", "LA", "La", "RGBa", "RGBA"} or "transparency" in image.info:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    return image
