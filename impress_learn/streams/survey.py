"""What a task's training images are like, before a bank takes them: which lose their proportions, and on which scale
those of more than 8 bits are. Kept in the cache of images, as looking at them takes as long as decoding."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.errors import DataError, StorageError
from impress_learn.streams.image_files import ImageFile
from impress_learn.streams.span import Span, assumed_span, choose_span, goes_with, in_words
from impress_learn.streams.view import squeezes

if TYPE_CHECKING:
    from impress_format.records.manifest import Preprocess
    from impress_learn.progress import Progress

_EIGHT_BITS = 255


@dataclass(frozen=True)
class Deep:
    """Images of more than 8 bits, at least one.

    Attributes:
        low, high: the smallest and the largest value of all.
        dimmest: the largest value of the image in which it is smallest.
        whole, grey: whether all hold integers; whether none is in colours.
    """

    low: float
    high: float
    dimmest: float
    whole: bool
    grey: bool


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        images: how many could be looked at.
        squeezed: how many lose their proportions.
    """

    images: int
    squeezed: int
    deep: Deep | None


def survey_files(files: Sequence[ImageFile], view: Preprocess) -> Survey:
    """Look at image files; those that cannot be read are for the decoder to tell.

    Raises:
        StorageError: this user has no folder for a cache.
    """
    import msgspec

    from impress_format.disk.files import make_folder, write_atomically
    from impress_learn.streams.image_cache import cache_folder, entry_key

    path = cache_folder() / f"{entry_key(files, msgspec.structs.replace(view, span=None))}.survey"
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Survey)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = [one for one in pool.map(lambda file: _look_at(file.path, view), files) if one is not None]
    deep = [one.deep for one in looked if one.deep is not None]
    found = Survey(len(looked), sum(one.squeezed for one in looked), _joined(deep))
    with contextlib.suppress(StorageError):
        make_folder(path.parent)
        write_atomically(path, msgspec.json.encode(found), replace=True)
    return found


def measured_span(surveys: Sequence[Survey]) -> Span | None:
    """The span of a bank that is created from these images; None if none has more than 8 bits."""
    deep = _joined([survey.deep for survey in surveys if survey.deep is not None])
    return None if deep is None else choose_span(deep.low, deep.high, whole=deep.whole)


def check_survey(survey: Survey, view: Preprocess, what: str, progress: Progress) -> None:
    """Tell what a bank does to these images, and refuse those that it would make all black, white or of one shade.

    Raises:
        DataError: their values do not go with the bank's span.
    """
    if survey.squeezed:
        progress.remark(
            f"{what}: {survey.squeezed:,} of {survey.images:,} training images are not square and are squeezed: the "
            "bank was made before banks cut out the centre; `impress bank upgrade` before this makes it do so"
        )
    deep = survey.deep
    if deep is None:
        return
    span = view.span or assumed_span(deep.low, deep.high, whole=deep.whole, grey=deep.grey)
    if not goes_with(deep.low, deep.high, span):
        raise DataError(
            f"{what}: training images of more than 8 bits have values of {in_words(deep.low, deep.high)}, the bank "
            f"takes {in_words(*span)} for black … white{'' if view.span else ', as it was made of other images'}: "
            "create a bank of these images first, or save them with 8 bits, all on one scale"
        )
    if view.span is None and span[1] > _EIGHT_BITS and deep.grey and deep.dimmest <= _EIGHT_BITS:
        progress.remark(
            f"{what}: images of more than 8 bits without a value above {_EIGHT_BITS} are taken for images of 8 bits, "
            "as the bank says no scale: create a bank of these images to have all on one"
        )


def _look_at(path: Path, view: Preprocess) -> Survey | None:
    from impress_learn.streams.read_image import look_at_image

    try:
        (height, width), image = look_at_image(path)
    except DataError:
        return None
    deep = None
    if image is not None:
        shown = image.visible()
        low, high = float(shown.min()), float(shown.max())
        deep = Deep(low, high, high, image.whole, image.values.ndim == 2)
    return Survey(1, int(squeezes(view, height, width)), deep)


def _joined(deep: Sequence[Deep]) -> Deep | None:
    if not deep:
        return None
    return Deep(
        low=min(one.low for one in deep),
        high=max(one.high for one in deep),
        dimmest=min(one.dimmest for one in deep),
        whole=all(one.whole for one in deep),
        grey=all(one.grey for one in deep),
    )
