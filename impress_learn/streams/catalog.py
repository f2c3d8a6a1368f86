"""The streams there are, as far as they can be described without loading any data."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from impress_format.errors import InvalidReference


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """A family of related tasks, one for each key in range(keys).

    `source` names the images that they are made from: streams of one source hold out the same images.
    """

    name: str
    source: str
    summary: str
    keys: int
    input_shape: tuple[int, int, int]
    classes: int
    train_images: int
    needs: str


_ROTATED_KEYS = 360
_PERMUTED_KEYS = 1 << 31

STREAMS = {
    info.name: info
    for info in (
        StreamInfo(
            name="rotated-digits",
            source="digits",
            summary="handwritten digits, every image turned by KEY degrees",
            keys=_ROTATED_KEYS,
            input_shape=(1, 28, 28),
            classes=10,
            train_images=1_297,
            needs="nothing: embedded (1,297 training and 500 test images)",
        ),
        StreamInfo(
            name="permuted-digits",
            source="digits",
            summary="handwritten digits, pixels in an order drawn from KEY",
            keys=_PERMUTED_KEYS,
            input_shape=(1, 28, 28),
            classes=10,
            train_images=1_297,
            needs="nothing: embedded (1,297 training and 500 test images)",
        ),
        StreamInfo(
            name="rotated-mnist",
            source="mnist",
            summary="MNIST, every image turned by KEY degrees",
            keys=_ROTATED_KEYS,
            input_shape=(1, 28, 28),
            classes=10,
            train_images=60_000,
            needs="MNIST in the data folder, or a network to download it",
        ),
        StreamInfo(
            name="permuted-mnist",
            source="mnist",
            summary="MNIST, pixels in an order drawn from KEY",
            keys=_PERMUTED_KEYS,
            input_shape=(1, 28, 28),
            classes=10,
            train_images=60_000,
            needs="MNIST in the data folder, or a network to download it",
        ),
    )
}


def stream_info(name: str) -> StreamInfo:
    """Raises InvalidReference with the nearest name if there is no such stream."""
    if name in STREAMS:
        return STREAMS[name]
    near = difflib.get_close_matches(name, STREAMS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(STREAMS)}"
    raise InvalidReference(f"unknown stream {name!r}: {hint} (`impress streams` describes them)")
