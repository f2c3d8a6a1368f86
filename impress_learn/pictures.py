"""A person's own image files -> pixels as a bank's network takes them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from impress_format.errors import DataError
from impress_format.records import Preprocess
from impress_learn.streams.image_files import SUFFIXES
from impress_learn.streams.view import central, scaled_size

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def find_pictures(paths: Sequence[Path]) -> list[Path]:
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


def read_picture(source: Path | bytes, preprocess: Preprocess) -> Tensor:
    """uint8 (C, H, W) of an image file, or of what is in one: turned upright, in the mode and size that are wanted.

    Transparent parts become black; 16 bits a channel become 8.

    Raises:
        DataError: no such file, or no image that can be read.
    """
    name = "standard input" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                if preprocess.crop is not None:  # a decoder of JPEG can leave out what will be scaled away
                    opened.draft(preprocess.mode, scaled_size(preprocess, opened.height, opened.width)[::-1])
                image = _eight_bits(ImageOps.exif_transpose(opened)).convert(preprocess.mode)
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file") from error
    # Decoders of two dozen formats have as many ways to refuse.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise DataError(f"{name}: no image that can be read ({error or type(error).__name__})") from error
    height, width = preprocess.size
    if image.size != (width, height):
        tall, wide = scaled_size(preprocess, image.height, image.width)
        image = image.resize((wide, tall), _RESAMPLING[preprocess.interpolation])
        top, left = central(preprocess, tall, wide)
        image = image.crop((left, top, left + width, top + height))
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if preprocess.mode == "L" else pixels.permute(2, 0, 1).contiguous()


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
