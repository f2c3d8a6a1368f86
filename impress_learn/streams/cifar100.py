"""CIFAR-100 in 20 tasks of five classes: torchvision's files, or image files in folders or archives."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from impress_format.errors import DataError
from impress_learn.streams.data_dir import default_data_dir
from impress_learn.streams.files_data import load_files
from impress_learn.streams.folder_layout import train_folders
from impress_learn.streams.image_files import list_images
from impress_learn.streams.stream import DataSet, Key

if TYPE_CHECKING:
    from impress_format.records.manifest import Preprocess
    from impress_learn.progress import Progress
    from impress_learn.streams.images import Images, ImagesInMemory

TASKS, CLASSES = 20, 5
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CLASS_NAMES = tuple(_NAMES.split())
"""The 100 fine labels in their official order, which is alphabetical."""
_SHAPE = (3, 32, 32)
_SUFFIXES = (".tar.gz", ".tgz", ".tar")


def cifar100_task(key: Key) -> DataSet:
    """Task `key`: the classes 5 key ... 5 key + 4."""
    first = int(key) * CLASSES
    names = CLASS_NAMES[first : first + CLASSES]
    return DataSet(
        name=f"split-cifar100/{key}",
        load=lambda data_dir, view, progress: _load(data_dir, names, view, progress),
        input_shape=_SHAPE,
        classes=CLASSES,
        train_images=CLASSES * 500,
        test_images=CLASSES * 100,
        mean=MEAN,
        std=STD,
        class_names=names,
    )


def _load(data_dir: Path | None, names: Sequence[str], view: Preprocess, progress: Progress) -> tuple[Images, Images]:
    """The images of these classes, wherever they are: in folders, in archives of such, or as torchvision has them.

    Raises:
        DataError: they are not there and cannot be downloaded, or are damaged.
    """
    folder = default_data_dir() if data_dir is None else data_dir
    if (root := _image_folder(folder, names)) is not None:
        listing = list_images(root, names)
        return load_files(listing.train, listing.test, view, str(root), progress)
    for archive in _archives(folder):
        if (found := _from_archive(archive, tuple(names))) is not None:
            return found
    train, test = _torchvision(folder)
    first = CLASS_NAMES.index(names[0])
    return _classes(train, first), _classes(test, first)


def _image_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """A folder with all these classes in its `train`."""
    for parent in (folder / "cifar100", folder):
        inside = sorted(one for one in parent.iterdir() if one.is_dir()) if parent.is_dir() else []
        for root in (parent, *inside):
            if any(all((part / name).is_dir() for name in names) for part in train_folders(root)):
                return root
    return None


def _archives(folder: Path) -> list[Path]:
    return [
        path
        for parent in (folder / "cifar100", folder)
        if parent.is_dir()
        for path in sorted(parent.iterdir())
        if path.name.endswith(_SUFFIXES) and path.is_file()
    ]


@lru_cache(maxsize=32)
def _from_archive(archive: Path, names: tuple[str, ...]) -> tuple[ImagesInMemory, ImagesInMemory] | None:
    """The images of these classes in an archive of `train/<class>/*.png` and `test/<class>/*.png`; None if they are
    not there. Nothing is unpacked to the disk.

    Raises:
        DataError: it is damaged.
    """
    parts: dict[str, list[tuple[str, int, bytes]]] = {"train": [], "test": []}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                part, _, rest = member.name.removeprefix("./").partition("/")
                name, _, file = rest.partition("/")
                if part in parts and name in names and file.endswith(".png") and (content := tar.extractfile(member)):
                    parts[part].append((file, names.index(name), content.read()))
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{archive} cannot be read: {error}") from error
    if any({label for _, label, _ in found} != set(range(len(names))) for found in parts.values()):
        return None
    return _decoded(parts["train"], archive), _decoded(parts["test"], archive)


def _decoded(found: list[tuple[str, int, bytes]], archive: Path) -> ImagesInMemory:
    import numpy as np
    import torch

    from impress_learn.streams.images import ImagesInMemory
    from impress_learn.streams.read_image import decode_image
    from impress_learn.streams.view import natural_view

    view = natural_view(_SHAPE, MEAN, STD)
    found.sort(key=lambda one: (one[1], one[0]))
    try:
        pixels = torch.from_numpy(np.stack([decode_image(content, view) for _, _, content in found]))
    except DataError as error:
        raise DataError(f"{archive} holds an image that cannot be read: {error}") from error
    return ImagesInMemory(pixels, torch.tensor([label for _, label, _ in found]), MEAN, STD)


@lru_cache(maxsize=1)
def _torchvision(folder: Path) -> tuple[ImagesInMemory, ImagesInMemory]:
    """All images as torchvision keeps them, whose digests it checks; downloaded where they are not there."""

    def read(train: Literal[True, False]) -> ImagesInMemory:
        import torch
        from torchvision import datasets

        from impress_learn.streams.images import ImagesInMemory

        try:
            found = datasets.CIFAR100(str(folder), train=train, download=True)
        except Exception as error:  # torchvision raises whatever its parser or the network stumbles over
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(
                f"CIFAR-100 is not in {folder} and could not be downloaded ({reason}).\n"
                f"Put torchvision's cifar-100-python, or images as train/<class>/*.png and test/<class>/*.png, into "
                f"{folder / 'cifar100'}, or name another folder with `data_dir` or $IMPRESS_DATA."
            ) from error
        pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        return ImagesInMemory(pixels, torch.tensor(found.targets), MEAN, STD)

    return read(True), read(False)


def _classes(images: ImagesInMemory, first: int) -> ImagesInMemory:
    """The images of five classes, which get the labels 0 to 4."""
    from dataclasses import replace

    import torch

    rows = torch.nonzero((images.labels >= first) & (images.labels < first + CLASSES)).flatten()
    chosen = images.subset(rows)
    return replace(chosen, labels=chosen.labels - first)
