"""Features of images that nobody has: what a class may look like, by few images of it and all that a bank has seen.

Classes lie about each other as `between` says and their images spread as `within` says (Projection). Of few images of a
class its mean is open; what is drawn here is drawn from all means that it may have. A head that tells these apart, too,
is rounded where that matters, and not where the few images happen to leave it open (docs/method.md, Heads).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from impress_learn.features.projection import Projection
from impress_learn.training.loop import Rows

LEAST_WITHIN, LEAST_BETWEEN = 0.1, 0.1
"""What is added to the covariance of images, of its mean variance, and to that of classes, of that of images."""
_JITTER = 1e-4
"""Added to a covariance that may be singular before its root is taken, relative to its mean variance."""
_ROWS = 256


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """What few images leave open of the means of C classes in D dimensions.

    Attributes:
        likeliest: (C, D).
        images: (C,), how many there are of each class.
    """

    likeliest: Tensor
    images: Tensor


def spread_of_classes(projection: Projection, dimensions: int) -> Tensor:
    """Covariance (D, D) of the means of classes."""
    within, between = (one[:dimensions, :dimensions] for one in (projection.within, projection.between))
    return between + LEAST_BETWEEN * within


def class_means(rows: Rows, projection: Projection, classes: int) -> ClassMeans:
    """The means of classes, drawn towards 0 as much as the few images there are of each leave them open.

    Args:
        rows: copies of an image are one image each time.
    """
    count = rows.values.shape[1]
    within, spread = projection.within[:count, :count], spread_of_classes(projection, count)
    sizes = rows.labels.bincount(minlength=classes).clamp(min=1).float()
    means = torch.zeros(classes, count, device=rows.device).index_add_(0, rows.labels, rows.values) / sizes[:, None]
    each = spread + within / sizes[:, None, None]
    return ClassMeans((spread @ torch.linalg.solve(each, means[:, :, None]))[:, :, 0], sizes)


def imagine(means: ClassMeans, projection: Projection, seed: int) -> Callable[[], Rows]:
    """What draws 256 rows of features, of each class about as many, each time others of other means."""
    classes, count = means.likeliest.shape
    within, spread = projection.within[:count, :count], spread_of_classes(projection, count)
    eye = torch.eye(count, device=within.device)
    roots = _root(within + LEAST_WITHIN * within.diagonal().mean() * eye)
    open_to = spread - spread @ torch.linalg.solve(spread + within / means.images[:, None, None], spread[None])
    open_to = (open_to + open_to.transpose(1, 2)) / 2
    scale = open_to.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    roots_of_means = _root(open_to + _JITTER * scale * eye)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(_ROWS, device=within.device) % classes

    def draw() -> Rows:
        noise = torch.randn(classes + _ROWS, count, generator=generator).to(within.device)
        drawn = means.likeliest + (roots_of_means @ noise[:classes, :, None])[:, :, 0]
        return Rows(drawn[labels] + noise[classes:] @ roots.T, labels)

    return draw


def _root(covariances: Tensor) -> Tensor:
    """R (..., D, D) with R Rᵀ the covariances: by Cholesky, or by eigenvalues where rounding left one below 0."""
    roots: Tensor
    roots, failed = torch.linalg.cholesky_ex(covariances)
    if failed.any():
        values, vectors = torch.linalg.eigh(covariances)
        roots = vectors * values.clamp(min=0).sqrt()[..., None, :]
    return roots
