"""The streams there are. A new one is a file of its own and a record here."""

from __future__ import annotations

import difflib

from impress_format.errors import InvalidReference
from impress_learn.streams.digits import DIGITS
from impress_learn.streams.jitter import jitter
from impress_learn.streams.mnist import MNIST
from impress_learn.streams.permuted import PERMUTED_KEYS, permute
from impress_learn.streams.rotated import ROTATED_KEYS, rotate
from impress_learn.streams.stream import DataSet, Stream


def _rotated(name: str, images: str, source: DataSet) -> Stream:
    summary = f"{images}, every image turned by KEY degrees"
    return Stream(name=name, summary=summary, source=source, keys=ROTATED_KEYS, transform=rotate, jitter=jitter)


def _permuted(name: str, images: str, source: DataSet) -> Stream:
    summary = f"{images}, pixels in an order drawn from KEY"
    return Stream(name=name, summary=summary, source=source, keys=PERMUTED_KEYS, transform=permute)


STREAMS = {
    stream.name: stream
    for stream in (
        _rotated("rotated-digits", "handwritten digits", DIGITS),
        _permuted("permuted-digits", "handwritten digits", DIGITS),
        _rotated("rotated-mnist", "MNIST", MNIST),
        _permuted("permuted-mnist", "MNIST", MNIST),
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
