"""A person's own images, in whichever form they have them -> what a bank's network takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from impress_format.bank import Bank
from impress_format.errors import DataError
from impress_format.records.manifest import Preprocess
from impress_learn.streams.find_images import tell_notices
from impress_learn.streams.images import normalise
from impress_learn.streams.read_image import Notice, decode_image, read_opened
from impress_learn.streams.view import view_of, view_shape

OwnImage: TypeAlias = "str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | Tensor"
"""A path, a Pillow image, a uint8 array (H, W) or (H, W, C), a uint8 tensor (C, H, W), or a float tensor (C, H, W) that
is normalised already."""

_FORMS = (
    "expected a path, a Pillow image, a uint8 array (H, W) or (H, W, C), a uint8 tensor (C, H, W), or a normalised "
    "float tensor"
)
_CHANNELS = (1, 3, 4)
_ROUNDING = 1e-3
_BEYOND = 0.5
"""Share of the range of normalised pixels by which values may lie outside it: changes of colour go as far."""


def read_image(image: OwnImage, preprocess: Preprocess, notice: Callable[[Notice], None] = lambda _: None) -> Tensor:
    """uint8 (C, H, W) as the bank wants it, read as `impress infer` reads files; float32 if it is normalised already.

    Raises:
        DataError: it is none of these, has another shape, or cannot be decoded.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8:
            return _normalised_already(image, preprocess)
        image = _array_of(image)
    if isinstance(image, np.ndarray):
        return torch.from_numpy(read_opened(_image_of(image), preprocess, notice))
    if isinstance(image, Image.Image):
        return torch.from_numpy(read_opened(image, preprocess, notice))
    if isinstance(image, (str, os.PathLike)):
        return torch.from_numpy(decode_image(Path(image), preprocess, notice))
    raise DataError(f"an image is {_kind(image)}: {_FORMS}")


class OwnReader:
    """Reads images for a bank, as many at a time as is wanted, and keeps what may make answers wrong."""

    def __init__(self, bank: Bank) -> None:
        """Nothing is read yet.

        Raises:
            BankMismatch: as view_of.
        """
        self.preprocess = view_of(bank)
        self._bank = bank.path
        self._noticed: Counter[Notice] = Counter()
        self._floats: list[Tensor] = []  # smallest and largest value of those that came normalised

    def read(self, images: Sequence[OwnImage], *, first: int | None = None) -> Tensor:
        """Normalised images, float32 (n, C, H, W), on the CPU.

        Args:
            images: at least one.
            first: the number of the first, to say which one cannot be read; None where there is one alone.

        Raises:
            DataError: as read_image.
        """
        read = []
        for number, image in enumerate(images):
            try:
                pixels = read_image(image, self.preprocess, self._notice)
            except DataError as error:
                if first is None or isinstance(image, (str, os.PathLike)):
                    raise
                raise DataError(f"image {first + number}: {error}") from error
            if pixels.is_floating_point():
                self._floats.append(torch.stack(pixels.aminmax()))
                read.append(pixels)
            else:
                read.append(normalise(pixels[None], self.preprocess.mean, self.preprocess.std)[0])
        return torch.stack(read)

    def remarks(self) -> list[str]:
        """What may make answers wrong, for people."""
        wrong = why_not_normalised(torch.stack(self._floats), self.preprocess) if self._floats else None
        return [*tell_notices(self._noticed, self._bank, self.preprocess), *([wrong] if wrong else [])]

    def _notice(self, notice: Notice) -> None:
        self._noticed[notice] += 1


def why_not_normalised(values: Tensor, preprocess: Preprocess) -> str | None:
    """What speaks against float images being normalised as the bank wants them; None if nothing does.

    Args:
        values: float32, of any shape: all that they hold, or the smallest and the largest.
    """
    low, high = (float(bound) for bound in values.aminmax())
    least = min(-mean / std for mean, std in zip(preprocess.mean, preprocess.std, strict=True))
    most = max((1 - mean) / std for mean, std in zip(preprocess.mean, preprocess.std, strict=True))
    slack = _BEYOND * (most - least)
    fractions = low >= -_ROUNDING and high <= 1 + _ROUNDING and (least < -_ROUNDING or most > 1 + _ROUNDING)
    if not fractions and least - slack <= low and high <= most + slack:
        return None
    return (
        f"float images are taken as normalised, ({', '.join(f'{one:g}' for one in preprocess.mean)}) and "
        f"({', '.join(f'{one:g}' for one in preprocess.std)}) being mean and deviation of pixel / 255; their values of "
        f"{low:.4g} … {high:.4g} look otherwise: give them as uint8, or normalise them"
    )


def _normalised_already(image: Tensor, preprocess: Preprocess) -> Tensor:
    shape = view_shape(preprocess)
    if not image.is_floating_point():
        raise DataError(f"an image is a tensor of {image.dtype}: expected uint8 pixels, or normalised floats")
    if tuple(image.shape) != shape:
        raise DataError(
            f"a float tensor {tuple(image.shape)} is taken as normalised and has to be {shape}, channels, height and "
            "width of the bank: give uint8 pixels of any size, or make it so"
        )
    if not bool(image.isfinite().all()):
        raise DataError("a float tensor has a value that is no finite number (NaN or infinite)")
    return image.detach().float().cpu()


def _array_of(image: Tensor) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, C) of (C, H, W), or (H, W) as it is."""
    if image.ndim == 3 and image.shape[0] not in _CHANNELS:
        raise DataError(
            f"a uint8 tensor {tuple(image.shape)}: expected (C, H, W) of {_listed(_CHANNELS)} channels"
            + (", not (H, W, C)" if image.shape[2] in _CHANNELS else "")
        )
    array: npt.NDArray[np.uint8] = (image.permute(1, 2, 0) if image.ndim == 3 else image).cpu().numpy()
    return array


def _image_of(array: npt.NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise DataError(f"an image is an array of {array.dtype}: expected uint8")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        channels_first = array.ndim == 3 and array.shape[0] in _CHANNELS
        raise DataError(
            f"an image is an array {array.shape}: expected (H, W) or (H, W, C) of {_listed(_CHANNELS)} channels"
            + (", not (C, H, W)" if channels_first else "")
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
