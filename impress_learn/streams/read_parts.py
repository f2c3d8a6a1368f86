"""Any number of a person's own images, decoded part by part, so that memory does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np

from impress_format.errors import DataError
from impress_format.records.manifest import Preprocess
from impress_learn.streams.read_image import Notice, Pixels, decode_image
from impress_learn.streams.view import view_shape

STANDARD_INPUT = "-"
LEAST_PART = 256
_PART_BYTES = 64 << 20
"""Pixels of a part, if that is more than LEAST_PART images: the larger, the fewer times a task's weights are built."""

Part = tuple["Pixels | None", list[str], list[str]]
"""uint8 images (n, C, H, W), where they are from, and what is wrong with those that cannot be read; None for n = 0."""


def images_at_once(preprocess: Preprocess) -> int:
    """How many images are a part."""
    return max(LEAST_PART, _PART_BYTES // prod(view_shape(preprocess)))


class PartReader:
    """Images of files, part by part, in order; twice if `again`.

    What can be read only once (a pipe, standard input) is then kept as it comes in the file, and images that are one
    part alone as they are decoded.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        sources: Sequence[str | Path],
        *,
        again: bool,
        stdin: Callable[[], bytes] | None,
        on_image: Callable[[], None],
    ) -> None:
        """Nothing is read yet.

        Args:
            preprocess: how the images are wanted.
            sources: files, or STANDARD_INPUT for what `stdin` reads.
            again: whether `parts` will be gone through twice.
            on_image: called for each image that was decoded, or could not be.
        """
        self._preprocess, self._sources, self._stdin, self._on_image = preprocess, sources, stdin, on_image
        self._at_once = images_at_once(preprocess)
        self._again = again
        self._content: dict[int, bytes] = {}
        self._only: Part | None = None
        self.noticed: Counter[Notice] = Counter()
        """What may make answers wrong, and of how many images: of the last time that they were decoded."""

    @property
    def steps(self) -> int:
        """How many times `on_image` will be called."""
        count = len(self._sources)
        return 2 * count if self._again and count > self._at_once else count

    def parts(self) -> Iterator[Part]:
        """All of the images."""
        if self._only is not None:
            yield self._only
            return
        self.noticed.clear()
        for start in range(0, len(self._sources), self._at_once):
            part = self._decoded(start)
            if self._again and len(self._sources) <= self._at_once:
                self._only = part
            yield part

    def _decoded(self, start: int) -> Part:
        pixels, read, unreadable = [], [], []
        for number, source in enumerate(self._sources[start : start + self._at_once], start=start):
            try:
                pixels.append(decode_image(self._content_of(number, source), self._preprocess, self._notice))
                read.append(str(source))
            except DataError as error:
                unreadable.append(str(error))
            self._on_image()
        return np.stack(pixels) if pixels else None, read, unreadable

    def _notice(self, notice: Notice) -> None:
        self.noticed[notice] += 1

    def _content_of(self, number: int, source: str | Path) -> Path | bytes:
        """The file, or what is in it where it can be read only once.

        Raises:
            DataError: it cannot be read.
        """
        if number in self._content:
            return self._content[number]
        if source == STANDARD_INPUT and self._stdin is not None:
            content = self._stdin()
        elif self._again and _is_pipe(Path(source)):
            try:
                content = Path(source).read_bytes()
            except OSError as error:
                raise DataError(f"{source}: no image that can be read ({error.strerror or error})") from error
        else:
            return Path(source)
        if self._again:
            self._content[number] = content
        return content


def _is_pipe(path: Path) -> bool:
    """Whether a file gives what is in it only once: a pipe, as `<(command)` of a shell is."""
    return path.is_fifo() or path.is_socket() or path.is_char_device()
