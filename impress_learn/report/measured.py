"""What was measured on images, kept in the page itself: a block of JSON that no browser runs.

A bank's folder holds the files that docs/format.md names and no others, and its digest in a zoo is over all of them; so
numbers that need data are no part of the bank. The page that shows them has them, and the next page takes them from
there, as long as the bank is the one that was measured (`state`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from math import prod
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from impress_format.bank import Bank
from impress_format.container.strict_json import check_json
from impress_format.errors import FormatError
from impress_format.records.fields import FullDigest, Record, Share, Text
from impress_format.tasks.pack import DIGEST
from impress_learn.report.png import Colour

VERSION = 1
BLOCK = '<script type="application/json" id="measured">'
_END = "</script>"
_MOST_SIDE = 64
"""Pixels of the longer side of an example that is kept; larger ones are thinned out."""
_MOST_TEXT = 1 << 16
_SIX = (0, 51, 102, 153, 204, 255)
PALETTES: dict[str, tuple[Colour, ...]] = {
    "grey": tuple((value * 17, value * 17, value * 17) for value in range(16)),
    "cube": tuple((red, green, blue) for red in _SIX for green in _SIX for blue in _SIX),
}
"""Colours that examples are kept in."""
Side = Annotated[int, Meta(ge=1, le=_MOST_SIDE)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]


class ExampleRecord(Record, frozen=True):
    """An image that was asked about: the numbers of its colours, uint8 `shape` (height, width), deflated, in base64.

    `colours` are 16 greys, or a cube of 216: as the page shows it.
    """

    label: Text
    answer: Text
    colours: Literal["grey", "cube"]
    shape: tuple[Side, Side]
    pixels: Annotated[str, Meta(max_length=_MOST_TEXT)]

    @property
    def palette(self) -> tuple[Colour, ...]:
        return PALETTES[self.colours]

    def image(self) -> npt.NDArray[np.uint8]:
        """The numbers of its colours, uint8 (height, width).

        Raises:
            ValueError: they are not of this shape, or of no colour.
        """
        expected = prod(self.shape)
        try:
            inflate = zlib.decompressobj()
            content = inflate.decompress(base64.b64decode(self.pixels, validate=True), expected + 1)
        except (binascii.Error, zlib.error) as error:
            raise ValueError(str(error)) from error
        if len(content) != expected:
            raise ValueError(f"{len(content)} bytes of pixels for {self.shape}")
        numbers = np.frombuffer(content, dtype=np.uint8).reshape(self.shape)
        if int(numbers.max()) >= len(self.palette):
            raise ValueError(f"a pixel of colour {numbers.max()}")
        return numbers


class ControlRecord(Record, frozen=True):
    """A task on its test images: its own accuracy, the mean under masks of other tasks, and the best single mask."""

    name: Text
    task: Text
    samples: Count
    accuracy: Share
    wrong_mask: Share | None
    best_mask: Share | None
    best_index: Count | None
    examples: Annotated[tuple[ExampleRecord, ...], Meta(max_length=16)] = ()


class FoundRecord(Record, frozen=True):
    """A task that was to be found from single images: the share that was right, and which tasks were found how often,
    the most frequent first.
    """

    task: Text
    samples: Annotated[int, Meta(ge=1, le=1 << 40)]
    right: Share
    counts: Annotated[tuple[tuple[Text, Count], ...], Meta(max_length=64)]


class Measurement(Record, frozen=True):
    """What was measured of a bank, of some of its tasks.

    `state` is that of the bank; `candidates` how many tasks were chosen from; `method` how.
    """

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    state: FullDigest
    controls: Annotated[tuple[ControlRecord, ...], Meta(max_length=256)]
    found: Annotated[tuple[FoundRecord, ...], Meta(max_length=256)] = ()
    candidates: Count = 0
    method: Annotated[str, Meta(max_length=64)] = ""


def keep_image(pixels: npt.NDArray[np.uint8], label: str, answer: str) -> ExampleRecord:
    """An example as it is kept, of an image (height, width, channels); a large one by every n-th pixel."""
    step = -(-max(pixels.shape[:2]) // _MOST_SIDE)
    small = pixels[::step, ::step]
    height, width, channels = small.shape
    if channels < 3:
        numbers = small[:, :, 0] // 16
    else:
        levels = np.rint(small / 51).astype(np.uint8)
        numbers = levels[:, :, 0] * np.uint8(36) + levels[:, :, 1] * np.uint8(6) + levels[:, :, 2]
    packed = base64.b64encode(zlib.compress(numbers.astype(np.uint8).tobytes(), 9)).decode("ascii")
    return ExampleRecord(
        label=label, answer=answer, colours="grey" if channels < 3 else "cube", shape=(height, width), pixels=packed
    )


def state_of(bank: Bank) -> str:
    """SHA-256 over the network, the masks' bits and the tasks' digests: other files of equal content have the same.

    Raises:
        FormatError, StorageError: a file of the bank cannot be read.
    """
    missing = set(bank.missing_masks())
    digest = hashlib.sha256(bank.backbone.digest.encode())
    for index in range(len(bank.manifest.masks)):
        digest.update(b"-" if index in missing else bank.read_mask_record(index).bits.encode())
    if bank.has_projection:
        digest.update(bank.projection_record.digest.encode())
    present = bank.tasks.snapshot()
    found = {}
    for pack in present.packs:
        digests = pack.columns[DIGEST]
        for number, own in enumerate(pack.owns()):
            if own[0] not in present.hidden:
                found[own[0]] = digests[number].tobytes()
    for name in present.loose:
        found[name] = bytes.fromhex(bank.read_task_record(name).digest)
    for name in sorted(found):
        digest.update(name.encode() + b"\n" + found[name])
    return digest.hexdigest()


def to_block(measurement: Measurement) -> str:
    """The block of a page that keeps it. No name in it ends the block: `<` is written as its code."""
    text = msgspec.json.encode(measurement).decode()
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return f"{BLOCK}{text}{_END}"


def from_page(path: Path, page: str) -> Measurement | None:
    """What a page has kept; None if it has nothing.

    Raises:
        FormatError: its block is not as this release writes it.
    """
    _, found, rest = page.partition(BLOCK)
    if not found:
        return None
    text = rest.partition(_END)[0].encode()
    check_json(path, text, longest=_MOST_TEXT)
    try:
        measurement = msgspec.json.decode(text, type=Measurement)
        for control in measurement.controls:
            for example in control.examples:
                example.image()
    except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise FormatError(path, f"keeps measured numbers that cannot be read ({error})") from error
    return measurement
