"""The streams there are. A new one is a file of its own and a record here."""

from __future__ import annotations

import difflib

from impress_format.errors import InvalidReference
from impress_learn.streams.digits import DIGITS
from impress_learn.streams.jitter import jitter
from impress_learn.streams.mnist import MNIST
from impress_learn.streams.permuted import PERMUTED_KEYS, permute
from impress_learn.streams.rotated import ROTATED_KEYS, rotate
from impress_learn.streams.stream import Stream

_TURNED, _PERMUTED = "every image turned by KEY degrees", "pixels in an order drawn from KEY"

STREAMS = {
    stream.name: stream
    for stream in (
        Stream(
            name="rotated-digits",
            summary=f"handwritten digits, {_TURNED}",
            source=DIGITS,
            keys=ROTATED_KEYS,
            transform=rotate,
            jitter=jitter,
        ),
        Stream(
            name="permuted-digits",
            summary=f"handwritten digits, {_PERMUTED}",
            source=DIGITS,
            keys=PERMUTED_KEYS,
            transform=permute,
        ),
        Stream(
            name="rotated-mnist",
            summary=f"MNIST, {_TURNED}",
            source=MNIST,
            keys=ROTATED_KEYS,
            transform=rotate,
            jitter=jitter,
        ),
        Stream(
            name="permuted-mnist", summary=f"MNIST, {_PERMUTED}", source=MNIST, keys=PERMUTED_KEYS, transform=permute
        ),
    )
}


def find_stream(name: str) -> Stream:
    """Raises InvalidReference with the nearest name if there is no such stream."""
    if name in STREAMS:
        return STREAMS[name]
    near = difflib.get_close_matches(name, STREAMS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(STREAMS)}"
    raise InvalidReference(f"unknown stream {name!r}: {hint} (`impress streams` describes them)")


def source_of(task: str) -> str:
    """What a task's images are made from; of a stream that this release does not know, its name."""
    name = task.partition("/")[0]
    return STREAMS[name].source.name if name in STREAMS else name


def hub_data_sets() -> dict[str, str]:
    """Streams whose data set has an entry on the Hugging Face Hub, and that entry."""
    return {stream.name: stream.source.hub for stream in STREAMS.values() if stream.source.hub}
