"""How a network wants its images: which size and colours, and images of another size made so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from impress_format.bank import Bank
    from impress_format.records.manifest import Preprocess
    from impress_learn.streams.stream import DataSet

PHOTO_MEAN, PHOTO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet, as everywhere."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of ITU-R 601, as Pillow has them."""
DEFAULT_SIDE = 32
"""Pixels that an image of any size is made wide, where nothing says how many."""


def default_view(data_set: DataSet) -> Preprocess:
    """How images are wanted if nothing else is asked for: as they are by nature, or small."""
    if data_set.input_shape is None:
        return photo_view(DEFAULT_SIDE, grey=False)
    return natural_view(data_set.input_shape, data_set.mean, data_set.std)


def natural_view(shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
    """How images that have a size by nature are wanted, if nothing else is asked for; of others the central part."""
    from impress_format.records.manifest import Preprocess

    channels, height, width = shape
    mode: Literal["L", "RGB"] = "L" if channels == 1 else "RGB"
    return Preprocess(mode=mode, size=(height, width), interpolation="bilinear", mean=mean, std=std, crop=1.0)


def changed_view(view: Preprocess, *, size: int | None, mode: Literal["L", "RGB"] | None) -> Preprocess:
    """The same with images of another size, or in other colours."""
    import msgspec

    mean, std = view.mean, view.std
    if mode is not None and mode != view.mode:
        mean, std = (((sum(each) / len(each),) if mode == "L" else each * 3) for each in (mean, std))
    return msgspec.structs.replace(
        view, mode=mode or view.mode, size=(size, size) if size else view.size, mean=mean, std=std
    )


def photo_view(size: int, *, grey: bool) -> Preprocess:
    """How images of any size are wanted: the central square, `size` pixels wide."""
    from impress_format.records.manifest import Preprocess

    mean, std = ((0.449,), (0.226,)) if grey else (PHOTO_MEAN, PHOTO_STD)
    return Preprocess(
        mode="L" if grey else "RGB", size=(size, size), interpolation="bilinear", mean=mean, std=std, crop=1.0
    )


def view_of(bank: Bank) -> Preprocess:
    """How a bank wants its images.

    Raises:
        BankMismatch: it does not say so.
    """
    from impress_format.versions import require_version

    preprocess = bank.manifest.preprocess
    if preprocess is None:
        require_version(bank.path, bank.manifest.format_version, "which does not say what its images are like")
    assert preprocess is not None  # version 2 says so
    return preprocess


def view_shape(view: Preprocess) -> tuple[int, int, int]:
    """Channels, height, width."""
    return (1 if view.mode == "L" else 3, *view.size)


def scaled_size(view: Preprocess, height: int, width: int) -> tuple[int, int]:
    """Height and width that an image is scaled to, before its centre is cut out if the view crops."""
    if view.crop is None:
        return view.size
    factor = max(view.size[0] / height, view.size[1] / width) / view.crop
    return max(round(height * factor), view.size[0]), max(round(width * factor), view.size[1])


def squeezes(view: Preprocess, height: int, width: int) -> bool:
    """Whether an image of this height and width loses its proportions: the bank is of a release that did not crop."""
    return view.crop is None and height * view.size[1] != width * view.size[0]


def central(view: Preprocess, height: int, width: int) -> tuple[int, int]:
    """Top and left of what is cut out of an image that was scaled to this height and width."""
    return (height - view.size[0]) // 2, (width - view.size[1]) // 2


def fitted(pixels: Tensor, view: Preprocess) -> Tensor:
    """uint8 images (N, C, H, W) as a view wants them; those that are so already, as they are."""
    import torch
    from torch.nn.functional import interpolate

    channels, height, width = view_shape(view)
    if pixels.shape[1] == 1 and channels == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    elif pixels.shape[1] == 3 and channels == 1:
        luma = torch.tensor(_LUMA, device=pixels.device).reshape(3, 1, 1)
        pixels = (pixels * luma).sum(1, keepdim=True).round().to(torch.uint8)
    if pixels.shape[2:] == (height, width):
        return pixels.contiguous()
    size = scaled_size(view, *pixels.shape[2:])
    smooth = {} if view.interpolation == "nearest" else {"antialias": True, "align_corners": False}
    scaled = interpolate(pixels.float(), size=size, mode=view.interpolation, **smooth)
    top, left = central(view, *size)
    return scaled[:, :, top : top + height, left : left + width].round().clamp(0, 255).to(torch.uint8)
