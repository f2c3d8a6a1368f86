"""Images of more than 8 bits a channel: their values as the file has them, and as one scale makes them 8 bits.

Pillow opens 16 bits of grey as `I;16`, other integers as `I`, floats as `F`. Colours of 16 bits it opens as RGB or RGBA
and keeps the upper byte of each value alone; asked for the other order of bytes it gives the lower one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

NOT_FINITE = "a value is no finite number (NaN or infinite)"
Values = npt.NDArray[np.float64]

_LOWER_BYTES = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
    "RGBX;16B": "RGBX;16L",
    "RGBX;16L": "RGBX;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B" if sys.byteorder == "little" else "RGBA;16L",
}
"""Raw mode of a tile that keeps the upper bytes -> the one that keeps the lower ones."""
_GREY_ALPHA, _FOUR_BYTES = "LA;16B", "RGBA"
"""16 bits of grey and of opacity are the same four bytes as four channels of 8 bits."""
_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
"""Tags of TIFF, and values of the last two."""


@dataclass(frozen=True, eq=False)
class DeepImage:
    """Values of an image, turned upright.

    Attributes:
        values: (H, W) or (H, W, 3), larger for brighter.
        opacity: (H, W) in 0 ... 1; None if nothing is transparent.
        whole: whether the file holds integers.
    """

    values: Values
    opacity: Values | None
    whole: bool

    def visible(self) -> Values:
        """Those that are not fully transparent; all, if there are none."""
        shown = self.values if self.opacity is None else self.values[self.opacity > 0]
        return shown if shown.size else self.values

    def scaled(self, low: float, high: float) -> Image.Image:
        """The image of mode L or RGB: `low` and below become 0, `high` and above 255, transparent parts black."""
        pixels = (self.values.clip(low, high) - low) * (255.0 / (high - low))
        if self.opacity is not None:
            pixels *= self.opacity if pixels.ndim == 2 else self.opacity[..., np.newaxis]
        return Image.fromarray(pixels.round().astype(np.uint8))


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits a channel, or a sign, which Pillow's modes of 8 bits do not have."""
    raw = _raw_mode(image)
    return image.mode.startswith(("I", "F")) or raw in _LOWER_BYTES or raw == _GREY_ALPHA or _is_signed_byte(image)


def read_deep(image: Image.Image, again: Callable[[], Image.Image]) -> DeepImage:
    """The values of an image that is_deep and was not decoded yet.

    Args:
        again: opens the same image once more.

    Raises:
        ValueError: a value is no finite number.
    """
    raw, transparent = _raw_mode(image), image.info.get("transparency")
    if raw == _GREY_ALPHA:
        _decode_as(image, _FOUR_BYTES)
        found = _grey_opacity(_array(image))
    elif raw in _LOWER_BYTES:
        with again() as other:
            _decode_as(other, _LOWER_BYTES[raw])
            found = _colours(_array(image), _array(other))
    else:
        found = _grey(image)
    if not np.isfinite(found.values).all():
        raise ValueError(NOT_FINITE)
    if transparent is not None and found.opacity is None:  # one grey value, or colour, of PNG
        same = found.values == np.asarray(transparent, dtype=np.float64)
        return replace(found, opacity=1.0 - (same if same.ndim == 2 else same.all(-1)))
    return found


def _grey(image: Image.Image) -> DeepImage:
    """An image of one channel."""
    tags = getattr(image, "tag_v2", {})
    unsigned = tags.get(_FORMAT, (1,))[0] != _SIGNED
    wide = image.mode == "I" and tags.get(_BITS, (0,))[0] == 32 and unsigned
    signed_byte, floats = _is_signed_byte(image), image.mode == "F"
    array = _array(image)
    if wide:  # Pillow has no such mode: large values come out negative
        array = array.view(np.uint32)
    elif signed_byte:
        array = array.view(np.int8)
    values = array.astype(np.float64)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns 8 bits round, and no others
        values = (0.0 if floats else 2.0 ** tags[_BITS][0] - 1) - values
    return DeepImage(values, None, not floats)


def _colours(upper: npt.NDArray[np.uint8], lower: npt.NDArray[np.uint8]) -> DeepImage:
    """An image of RGB or RGBA."""
    values = upper.astype(np.float64) * 256 + lower
    return DeepImage(values[..., :3], values[..., 3] / 65535 if values.shape[-1] == 4 else None, True)


def _grey_opacity(channels: npt.NDArray[np.uint8]) -> DeepImage:
    """An image of two upper and two lower bytes a pixel."""
    wide = channels.astype(np.float64)
    return DeepImage(wide[..., 0] * 256 + wide[..., 1], (wide[..., 2] * 256 + wide[..., 3]) / 65535, True)


def _raw_mode(image: Image.Image) -> str | None:
    """What the decoder of an image that is not decoded yet is told about its bytes."""
    arguments = getattr(image, "tile", None)
    if not arguments:
        return None
    given = arguments[0][3]
    raw = given[0] if isinstance(given, tuple) and given else given
    return raw if isinstance(raw, str) else None


def _decode_as(image: Image.Image, raw: str) -> None:
    """Have the bytes taken for others of as many."""
    tiles = []
    for tile in image.tile:  # type: ignore[attr-defined]
        given = raw if isinstance(tile[3], str) else (raw, *tile[3][1:])
        # A named tuple from Pillow 11.1 on.
        tiles.append(tile._replace(args=given) if hasattr(tile, "_replace") else (*tile[:3], given))
    image.tile = tiles  # type: ignore[attr-defined]


def _is_signed_byte(image: Image.Image) -> bool:
    """Whether a TIFF of 8 bits has negative values, which Pillow takes for large ones."""
    tags = getattr(image, "tag_v2", {})
    return image.mode == "L" and tags.get(_FORMAT, (1,))[0] == _SIGNED


def _array(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.array(ImageOps.exif_transpose(image))
