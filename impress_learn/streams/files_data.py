"""Listed image files -> labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from impress_learn.streams.image_files import ImageFile

if TYPE_CHECKING:
    from impress_format.records.manifest import Preprocess
    from impress_learn.progress import Progress
    from impress_learn.streams.images import MappedImages


def load_files(
    train: Sequence[ImageFile],
    test: Sequence[ImageFile],
    view: Preprocess,
    what: str,
    progress: Progress,
    train_sets: Sequence[int] | None = None,
) -> tuple[MappedImages, MappedImages]:
    """Training and test images of these files; those that cannot be read are told and left out.

    Args:
        train_sets: for each training file the set of images that it belongs with; None where each is by itself.

    Raises:
        StorageError, DataError: as decode_images, or none can be read of one of the two that has any.
    """
    import numpy as np
    import torch

    from impress_format.errors import DataError
    from impress_learn.streams.image_cache import decode_images
    from impress_learn.streams.images import MappedImages

    decoded = decode_images([*train, *test], view, what, progress)

    def part(
        files: Sequence[ImageFile],
        rows: np.ndarray[tuple[int], np.dtype[np.int64]],
        source: str,
        sets: Sequence[int] | None,
    ) -> MappedImages:
        kept = rows >= 0
        if len(files) and not kept.any():
            raise DataError(f"{what}: none of {len(files):,} {source} images can be read")
        labels = np.array([file.label for file in files], dtype=np.int64)[kept]
        return MappedImages(
            decoded.pixels,
            torch.from_numpy(rows[kept]),
            torch.from_numpy(labels),
            view.mean,
            view.std,
            sets=None if sets is None else torch.tensor(sets)[torch.from_numpy(kept)],
        )

    return part(train, decoded.rows[: len(train)], "training", train_sets), part(
        test, decoded.rows[len(train) :], "test", None
    )
