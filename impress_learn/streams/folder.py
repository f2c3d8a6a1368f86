"""A person's own images: `folder:PATH`, a task whose classes are the folders in it."""

from __future__ import annotations

from pathlib import Path

from impress_learn.streams.augment import shift
from impress_learn.streams.files_data import load_files
from impress_learn.streams.image_files import list_pictures
from impress_learn.streams.jitter import jitter
from impress_learn.streams.stream import DataSet, Key, Stream
from impress_learn.streams.survey import survey_files
from impress_learn.streams.view import PHOTO_MEAN, PHOTO_STD


def folder_data(path: Key) -> DataSet:
    """The images in a folder, listed and not decoded.

    Raises:
        DataError: as list_pictures.
    """
    listing = list_pictures(Path(str(path)))
    return DataSet(
        name=f"folder:{path}",
        load=lambda _, view, watch: load_files(listing.train, listing.test, view, f"folder:{path}", watch),
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
