"""Where a task's images lie in the projection, computed once and kept in the cache of images.

The name of an entry is the digest of all that decides about it: the projection (and with it the network) and every
pixel. So an entry is never wrong; to make room, the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from impress_format.disk.files import make_folder, write_atomically
from impress_format.errors import StorageError
from impress_learn.features.features import AT_ONCE, features_of
from impress_learn.features.projection import Projection
from impress_learn.network.backbone import Backbone
from impress_learn.streams.image_cache import cache_folder
from impress_learn.streams.images import Images

_LAYOUT = b"2"
"""To be raised when the same pixels come out otherwise."""
_FOLDER = "features"
_NAME = "placed"


def projected_features(backbone: Backbone, projection: Projection, images: Images) -> Tensor:
    """Projected features, float32 (N, D), of all images as they are, not augmented; rounded to float16.

    Where the cache cannot be written, they are computed each time.

    Raises:
        StorageError: this user has no folder for a cache.
    """
    path = cache_folder() / _FOLDER / f"{_key(projection, images, mirrored=backbone.mirrored)}.safetensors"
    with contextlib.suppress(OSError, SafetensorError, KeyError):
        found = safetensors.torch.load_file(path)[_NAME]
        if found.shape == (len(images), projection.dimensions):
            return found.to(images.device).float()
    projected = projection.project(features_of(backbone, images)).half()
    with contextlib.suppress(StorageError):
        make_folder(path.parent)
        write_atomically(path, safetensors.torch.save({_NAME: projected.cpu().contiguous()}), replace=True)
    return projected.float()


def _key(projection: Projection, images: Images, *, mirrored: bool) -> str:
    seen = b"mirrored" if mirrored else b""
    digest = hashlib.sha256(_LAYOUT + seen + projection.digest.encode() + repr((images.mean, images.std)).encode())
    for start in range(0, len(images), AT_ONCE):
        pixels: Tensor = images.pixels_of(slice(start, start + AT_ONCE))
        if pixels.dtype != torch.uint8:  # normalised by whoever gave them
            digest.update(str(pixels.dtype).encode())
        digest.update(pixels.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]
