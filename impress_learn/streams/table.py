"""The streams there are. A new one is a file of its own and a record here."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

from impress_format.errors import InvalidReference
from impress_learn.streams import cifar100, imagenet
from impress_learn.streams.augment import crop_and_flip, shift_and_flip
from impress_learn.streams.dataset import DATASET
from impress_learn.streams.digits import DIGITS
from impress_learn.streams.folder import FOLDER
from impress_learn.streams.folder_key import FolderKey, parse_folder_key
from impress_learn.streams.jitter import jitter
from impress_learn.streams.mnist import MNIST
from impress_learn.streams.permuted import PERMUTED_KEYS, permute
from impress_learn.streams.rotated import ROTATED_KEYS, rotate
from impress_learn.streams.stream import DataSet, Stream


def _rotated(name: str, images: str, source: DataSet, needs: str, hub: str | None = None) -> Stream:
    """Tasks made from one data set by turning its images."""
    return Stream(
        name=f"rotated-{name}",
        summary=f"{images}, every image turned by KEY degrees",
        keys=ROTATED_KEYS,
        data_set=lambda _: source,
        shared=source.name,
        input_shape=source.input_shape,
        classes=source.classes,
        needs=needs,
        hub=hub,
        transform=rotate,
        jitter=jitter,
    )


def _permuted(rotated: Stream, name: str, images: str) -> Stream:
    """Tasks made from the same data set by reordering pixels: a moved image would be another one."""
    return replace(
        rotated,
        name=f"permuted-{name}",
        summary=f"{images}, pixels in an order drawn from KEY",
        keys=PERMUTED_KEYS,
        transform=permute,
        jitter=None,
    )


_DIGITS = _rotated("digits", "handwritten digits", DIGITS, "nothing: embedded (1,297 training and 500 test images)")
_MNIST = _rotated("mnist", "MNIST", MNIST, "MNIST in the data folder, or a network to download it", "ylecun/mnist")
_SPLIT_CIFAR100 = Stream(
    name="split-cifar100",
    summary="CIFAR-100 in tasks of five classes each, in alphabetical order",
    keys=cifar100.TASKS,
    data_set=cifar100.cifar100_task,
    input_shape=(3, 32, 32),
    classes=cifar100.CLASSES,
    needs="CIFAR-100 in the data folder, torchvision's or as image files, or a network to download it",
    hub="uoft-cs/cifar100",
    augment=shift_and_flip,
    jitter=shift_and_flip,
)
_SPLIT_IMAGENET = Stream(
    name="split-imagenet",
    summary="ImageNet in tasks of ten classes each, in the order of their folders' names",
    keys=imagenet.TASKS,
    data_set=imagenet.imagenet_task,
    input_shape=None,
    classes=imagenet.CLASSES,
    names_by_data=True,
    needs="ImageNet in the data folder, as torchvision unpacks it",
    hub="ILSVRC/imagenet-1k",
    augment=crop_and_flip,
    jitter=crop_and_flip,
)

STREAMS = {
    stream.name: stream
    for stream in (
        _DIGITS,
        _permuted(_DIGITS, "digits", "handwritten digits"),
        _MNIST,
        _permuted(_MNIST, "mnist", "MNIST"),
        _SPLIT_CIFAR100,
        _SPLIT_IMAGENET,
        FOLDER,
        DATASET,
    )
}


def find_stream(name: str) -> Stream:
    """Raises InvalidReference with the nearest name if there is no such stream."""
    if name in STREAMS:
        return STREAMS[name]
    near = difflib.get_close_matches(name, STREAMS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(STREAMS)}"
    raise InvalidReference(f"unknown stream {name!r}: {hint} (`impress streams` describes them)")


def share_images(one: str, other: str) -> bool:
    """Whether two tasks may have images in common: they are made from one data set, or a folder lies in the other's."""
    folders = [_folder_key(task) for task in (one, other)]
    if folders[0] is None or folders[1] is None:
        return _source_of(one) == _source_of(other)
    first, second = (Path(os.path.realpath(key.path)) for key in folders if key is not None)
    return first == second or first in second.parents or second in first.parents


def read_alike(one: str, other: str) -> bool:
    """Whether two references read the same folder in the same way, however its path is written."""
    if one == other:
        return True
    keys = [_folder_key(task) for task in (one, other)]
    return None not in keys and len({replace(key, path=Path(os.path.realpath(key.path))) for key in keys if key}) == 1


def _folder_key(task: str) -> FolderKey | None:
    """What the reference of a folder says; None of any other."""
    return parse_folder_key(task.partition(":")[2]) if task.startswith(f"{FOLDER.name}:") else None


def _source_of(task: str) -> str:
    """What the images of a task that is no folder are made from."""
    name = task.partition("/")[0]
    stream = STREAMS.get(name)
    return task if stream is None or stream.shared is None else stream.shared


def has_natural_size(task: str) -> bool:
    """Whether all images of a task have one size, that of their data set; False where nobody knows."""
    stream = STREAMS.get(task.partition("/")[0])
    return stream is not None and stream.input_shape is not None


def hub_data_sets() -> dict[str, str]:
    """Streams whose data set has an entry on the Hugging Face Hub, and that entry."""
    return {stream.name: stream.hub for stream in STREAMS.values() if stream.hub}
