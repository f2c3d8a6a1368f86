"""How a bank's tasks are signed and recognised: by features of a pretrained network, or else by pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.parts.head import StoredHead
from impress_learn.features.adaptation import adapted
from impress_learn.features.features import AT_ONCE, frozen_features
from impress_learn.features.projected import projected_features
from impress_learn.features.projection import Projection, load_projection
from impress_learn.network.backbone import Backbone
from impress_learn.recognition import feature_signature
from impress_learn.recognition import pixel_signature as signature
from impress_learn.recognition.feature_signature import Headed
from impress_learn.recognition.pixel_signature import Recognised
from impress_learn.recognition.task_classifier import TaskClassifier, load_task_classifier, signature_images
from impress_learn.streams.images import Images


@dataclass(frozen=True, eq=False)
class Recognise:
    """What tells which of T tasks images are of, in two steps: of images that share a task the first can be taken part
    by part, and holds a few hundred numbers an image.

    Attributes:
        embed: normalised images (n, *input_shape) -> what is compared of them (n, F).
        compare: that of groups (g, n, F), the images of a group of one task -> what they are likely to be.
    """

    embed: Callable[[Tensor], Tensor]
    compare: Callable[[Tensor], Recognised]

    def __call__(self, groups: Tensor) -> Recognised:
        """What groups of normalised images (g, n, *input_shape), those of a group of one task, are likely to be."""
        return self.compare(self.embed(groups.flatten(0, 1)).view(*groups.shape[:2], -1))


class SignatureMaker(Protocol):
    """What makes signatures, 64 bytes each, and tells by them which task images are of."""

    def chosen(self, images: Images) -> Images:
        """Those of a task's training images that its signature is made of."""

    def make_signature(self, images: Images, head: StoredHead | None, seed: int) -> bytes:
        """The signature of a task of these images, and of this head if it has one."""

    def known(self, signatures: npt.NDArray[np.uint8], headed: Headed) -> Recognise:
        """What compares images with T tasks, by their signatures (T, 64)."""


@dataclass(frozen=True)
class ByPixels:
    """A task classifier's."""

    task_classifier: TaskClassifier

    def chosen(self, images: Images) -> Images:
        return images.subset(signature_images(len(images)))

    def make_signature(self, images: Images, head: StoredHead | None, seed: int) -> bytes:  # noqa: ARG002
        return signature.make_pixel_signature(self.task_classifier, images)

    def known(self, signatures: npt.NDArray[np.uint8], headed: Headed) -> Recognise:  # noqa: ARG002
        tasks = signature.read_signatures(self.task_classifier, signatures)
        return Recognise(
            partial(signature.embed, self.task_classifier), partial(signature.compare, self.task_classifier, tasks)
        )


@dataclass(frozen=True)
class ByFeatures:
    """Those of the network that heads stand on.

    Attributes:
        backbone: moved towards the bank's tasks, where it was.
    """

    backbone: Backbone
    projection: Projection

    def chosen(self, images: Images) -> Images:
        return images

    def make_signature(self, images: Images, head: StoredHead | None, seed: int) -> bytes:
        return feature_signature.make_feature_signature(
            self.projection, projected_features(self.backbone, self.projection, images), head, seed
        )

    def known(self, signatures: npt.NDArray[np.uint8], headed: Headed) -> Recognise:
        return Recognise(self._embed, feature_signature.known_tasks(self.projection, signatures, headed).recognise)

    def _embed(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            projected = [
                self.projection.project(frozen_features(self.backbone, part)) for part in images.split(AT_ONCE)
            ]
        return torch.cat(projected)


def load_signature_maker(bank: Bank, backbone: Backbone, device: torch.device) -> SignatureMaker | None:
    """What signs tasks of this bank; None if nothing does.

    Args:
        backbone: the bank's, on `device`.

    Raises:
        FormatError: a file is missing or damaged.
    """
    if bank.signature_kind == "features":
        projection = load_projection(bank, device)
        moved = adapted(backbone, projection.weight_delta)
        return ByFeatures(replace(moved, mirrored=bank.manifest.mirrored), projection)
    task_classifier = load_task_classifier(bank, device)
    return None if task_classifier is None else ByPixels(task_classifier)
