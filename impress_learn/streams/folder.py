"""A person's own images: `folder:PATH`, a task whose classes are the folders in it."""

from __future__ import annotations

from impress_learn.streams.augment import shift
from impress_learn.streams.files_data import load_files
from impress_learn.streams.folder_key import parse_folder_key
from impress_learn.streams.image_files import list_images, list_unlabelled
from impress_learn.streams.jitter import jitter
from impress_learn.streams.stream import DataSet, Key, Stream
from impress_learn.streams.survey import survey_files
from impress_learn.streams.view import PHOTO_MEAN, PHOTO_STD


def folder_data(path: Key) -> DataSet:
    """The images in a folder, listed and not decoded.

    Args:
        path: with what says how the folder is read (folder_key.py).

    Raises:
        InvalidReference, DataError: as parse_folder_key and list_images.
    """
    key = parse_folder_key(str(path))
    if key.unlabelled:
        listing = list_unlabelled(key.path)
    else:
        listing = list_images(key.path, flat=key.classes, groups=key.groups)
    return DataSet(
        name=f"folder:{path}",
        load=lambda _, view, progress: load_files(
            listing.train, listing.test, view, f"folder:{path}", progress, listing.train_sets
        ),
        input_shape=None,
        classes=len(listing.class_names),
        train_images=len(listing.train),
        test_images=len(listing.test),
        mean=PHOTO_MEAN,
        std=PHOTO_STD,
        class_names=listing.class_names,
        remarks=listing.remarks,
        survey=lambda _, view: survey_files(listing.train, view),
    )


FOLDER = Stream(
    name="folder",
    summary="your own images: folder:PATH, a folder a class, or folders of such folders, a task each",
    keys=None,
    data_set=folder_data,
    input_shape=None,
    classes=None,
    names_by_data=True,
    needs="a folder of images",
    augment=shift,
    jitter=jitter,
)
