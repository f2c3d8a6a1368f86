"""One image file -> pixels as a bank's network takes them."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from impress_format.errors import DataError
from impress_format.records.manifest import Preprocess
from impress_learn.streams.deep_images import NOT_FINITE, DeepImage, is_deep, read_deep
from impress_learn.streams.span import Span, goes_with
from impress_learn.streams.view import central, scaled_size, squeezes

_OBJECT = re.compile(r"<_io\.BytesIO object at 0x[0-9a-f]+>")
"""What Pillow calls bytes that have no file's name."""
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


Pixels = npt.NDArray[np.uint8]
"""An image (C, H, W)."""

Notice = Literal["squeezed", "unscaled", "off"]
"""What may make answers to an image wrong: it loses its proportions; it has more than 8 bits and the bank does not say
which value is white; or the bank says what does not go with its values."""


def decode_image(
    source: Path | bytes, preprocess: Preprocess, notice: Callable[[Notice], None] = lambda _: None
) -> Pixels:
    """uint8 (C, H, W) of an image file, or of what is in one: turned upright, in the mode and size that are wanted.

    Transparent parts become black; more than 8 bits a channel become 8, as `preprocess` says.

    Args:
        notice: is told what may make the answer a wrong one.

    Raises:
        DataError: no such file, or no image that can be read.
    """
    with _reading(source):
        # Colours of 16 bits are opened twice, and a pipe, as `<(command)` of a shell is, gives what it has once.
        content = source.read_bytes() if isinstance(source, Path) and source.is_fifo() else source
    with _reading(source), _open(content) as opened:
        if preprocess.crop is not None:  # a decoder of JPEG can leave out what will be scaled away
            opened.draft(preprocess.mode, scaled_size(preprocess, opened.height, opened.width)[::-1])
        return _pixels(opened, lambda: _open(content), preprocess, notice)


def read_opened(
    image: Image.Image, preprocess: Preprocess, notice: Callable[[Notice], None] = lambda _: None
) -> Pixels:
    """As decode_image, of an image that a person has opened or made; it stays as it is.

    Raises:
        DataError: it cannot be decoded.
    """

    if is_deep(image) and getattr(image, "tile", None):  # not decoded yet: the file is decoded as `infer` does
        name = getattr(image, "filename", "")
        if not name or not Path(name).is_file():
            raise DataError(
                "the image has more than 8 bits a channel and is not decoded yet: give the path of its file instead"
            )
        return decode_image(Path(name), preprocess, notice)
    with _reading("the image"):
        return _pixels(image, image.copy, preprocess, notice)


def _pixels(
    opened: Image.Image, again: Callable[[], Image.Image], preprocess: Preprocess, notice: Callable[[Notice], None]
) -> Pixels:
    """uint8 (C, H, W): upright, in the mode and size that are wanted."""
    image = _eight_bits(opened, again, preprocess.span, notice).convert(preprocess.mode)
    height, width = preprocess.size
    if image.size != (width, height):
        if squeezes(preprocess, image.height, image.width):
            notice("squeezed")
        tall, wide = scaled_size(preprocess, image.height, image.width)
        image = image.resize((wide, tall), _RESAMPLING[preprocess.interpolation])
        top, left = central(preprocess, tall, wide)
        image = image.crop((left, top, left + width, top + height))
    pixels = np.array(image, dtype=np.uint8)
    return pixels[None] if preprocess.mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def look_at_image(source: Path) -> tuple[tuple[int, int], DeepImage | None]:
    """Height and width of an image file as it lies in the file, and its values if it has more than 8 bits a channel:
    another is not decoded.

    Raises:
        DataError: as decode_image.
    """
    with _reading(source), _open(source) as opened:
        size = opened.height, opened.width
        return size, read_deep(opened, lambda: _open(source)) if is_deep(opened) else None


@contextmanager
def _reading(source: Path | bytes | str) -> Iterator[None]:
    """Raises DataError, naming the image, for what a decoder has against it."""
    name = "standard input" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file") from error
    # Decoders of two dozen formats have as many ways to refuse.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
        reason = _OBJECT.sub("it", str(error)) or type(error).__name__
        raise DataError(f"{name}: no image that can be read ({reason})") from error


def _open(source: Path | bytes) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _eight_bits(
    image: Image.Image, again: Callable[[], Image.Image], span: Span | None, notice: Callable[[Notice], None]
) -> Image.Image:
    """The same image upright, without palette, alpha, or more than 8 bits a channel."""
    if is_deep(image) and span is not None:
        deep = read_deep(image, again)
        shown = deep.visible()
        if not goes_with(float(shown.min()), float(shown.max()), span):
            notice("off")
        return deep.scaled(*span)
    unscaled = is_deep(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _unscaled(image)
    if unscaled:
        notice("unscaled")
    if image.mode in {"P", "PA", "LA", "La", "RGBa", "RGBA"} or "transparency" in image.info:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    return image


def _unscaled(image: Image.Image) -> Image.Image:
    """An image of more than 8 bits as releases read it that kept no span: tasks of their banks learned from such."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(NOT_FINITE)
    scaled = values * 255.0 if image.mode == "F" else values / (257.0 if values.max(initial=0.0) > 255 else 1.0)
    return Image.fromarray(np.clip(scaled.round(), 0, 255).astype(np.uint8))
