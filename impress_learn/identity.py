"""A signature of 64 bytes tells the images of one task from those of others (docs/method.md, Which task).

Features of an image (impress_learn/features.py) are shifted, scaled, and freed of the directions in which images of
one and the same task differ most. What is left is projected: on the few directions in which the basis' tasks differ,
if new tasks differ in them too, and on random ones for the rest. A signature is the mean over a task's training
images, one byte for each of the first and one bit, its sign, for each of the others, whose common size is one byte
more: a task unlike the basis' lies far out. A query is the mean over the images asked about, not rounded. The two are
compared by how much likelier the query is for this task than for a task drawn anew: probabilistic linear discriminant
analysis (Ioffe 2006) with diagonal variances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impress_format.bank import Bank
from impress_format.identity import MOST_DIRECTIONS, Identity, read_identity
from impress_format.records import SIGNATURE_BYTES, TAG_BYTES
from impress_format.weights import random_words
from impress_learn.backbone import Backbone
from impress_learn.features import image_features
from impress_learn.streams.data import Images

_NUISANCES = 64
_SUBSPACE_STEPS = 12
_SHARED_SHARE = 0.25
"""Least share of a new basis task's position that the others' directions must explain for these to be kept."""
_LONE_BETWEEN = 0.25
"""Variance between tasks in units of that within one, where the basis has one task and cannot tell."""
_LEVELS = 7
_LEVEL = 0.45
"""Step of the levels in standard deviations."""
_RANGE = 4.0
"""Standard deviations between tasks that one byte spans to either side."""
_SIGN_MEAN = math.sqrt(2 / math.pi)
"""Mean size of a standard normal variable: what its sign is worth."""
_SIGN_SPREAD = 1 - 2 / math.pi
"""Its variance when the sign is known."""
_GAIN_STEPS = 16
"""A gain byte b stands for 2^((b - 64) / 16)."""
_GAIN_ZERO = 64


@dataclass(frozen=True, eq=False)
class Identifier:
    """Identity statistics, ready to use: P = directions + signs.

    Attributes:
        tag: what signatures made with these begin with.
        center: (D,).
        projection: (D, P).
        directions: the first columns, which a signature holds as bytes.
        within, between: (P,), variance of an image's and of a task's position in each column.
    """

    tag: bytes
    center: Tensor
    projection: Tensor
    directions: int
    within: Tensor
    between: Tensor

    @property
    def spread(self) -> Tensor:
        """Variance of a task's position in each of the columns that a signature holds as signs: one number."""
        return self.between[-1]

    def project(self, features: Tensor) -> Tensor:
        """Positions (..., P) of features (..., D)."""
        return (features - self.center) @ self.projection


@dataclass(frozen=True, eq=False)
class Places:
    """Where T tasks lie, from their signatures.

    Attributes:
        directions: (T, directions).
        signs: (T, P - directions), 1 or -1.
        gain: (T,), the size of the positions that the signs are of, 1 for a task like those of the basis.
    """

    directions: Tensor
    signs: Tensor
    gain: Tensor


def fit_identity(means: Tensor, covariance: Tensor) -> Identity:
    """Statistics for a bank.

    Args:
        means: float64 (T, D), mean features of images of each basis task.
        covariance: float64 (D, D), that of images of one task, averaged over tasks.
    """
    center = _half(means.mean(0))
    deviation = covariance.diagonal().sqrt()
    # A feature that is nearly constant, a pixel at the rim, must not outweigh the others.
    scale = _half((deviation + 0.05 * deviation.mean()).clamp(min=1e-4))
    within = covariance / scale / scale[:, None]
    nuisance, nuisance_step = _quantised(_nuisances(within), _LEVEL, _LEVELS)
    clean = _cleaner(nuisance * nuisance_step)
    places = ((means - center) / scale) @ clean
    share, total = _explained(places)
    count = min(len(means) - 1, MOST_DIRECTIONS) if share >= _SHARED_SHARE else 0
    directions = _top(places, count)
    steps = directions.abs().amax(1, keepdim=True) / 127
    levels = (directions / steps).round()
    basis = levels * steps
    remainder = clean - clean @ basis.T @ basis
    cleaned = clean.T @ within @ clean
    noise = torch.cat([torch.diagonal(basis @ cleaned @ basis.T), (remainder * (within @ remainder)).sum()[None]])
    noise[-1] /= center.numel()
    explained = share * total / max(count, 1)
    spread = torch.cat(
        [
            torch.maximum((places @ basis.T).square().mean(0), explained.expand(count)),
            ((total * (1 - share) if count else total) / center.numel())[None],
        ]
    )
    if len(means) == 1:
        spread = _LONE_BETWEEN * noise
    floor = 1e-8 * noise.max().clamp(min=1e-6)
    return Identity(
        center=center.numpy().astype(np.float16),
        scale=scale.numpy().astype(np.float16),
        nuisance=nuisance.numpy().astype(np.int8),
        nuisance_step=nuisance_step.numpy().astype(np.float32),
        directions=levels.numpy().astype(np.int8),
        direction_step=steps[:, 0].numpy().astype(np.float32),
        within=noise.clamp(min=floor).numpy().astype(np.float32),
        between=spread.clamp(min=floor).numpy().astype(np.float32),
    )


def make_identifier(identity: Identity, tag: bytes, device: torch.device) -> Identifier:
    """Projections in float32 on `device`."""
    clean = _cleaner(_tensor(identity.nuisance) * _tensor(identity.nuisance_step))
    basis = _tensor(identity.directions) * _tensor(identity.direction_step)[:, None]
    features, signs = len(identity.center), identity.signs
    bits = np.unpackbits(random_words(0, "identity", -(-features * signs // 64)).astype("<u8").view(np.uint8),
        count=features * signs, bitorder="little")  # fmt: skip
    random = (_tensor(bits.reshape(features, signs)) * 2 - 1) / math.sqrt(features)
    remainder = clean - (clean @ basis.T) @ basis
    projection = torch.cat([clean @ basis.T, remainder @ random], dim=1) / _tensor(identity.scale)[:, None]
    columns = torch.tensor([*range(len(basis)), *[len(basis)] * signs])
    return Identifier(
        tag=tag,
        center=_tensor(identity.center).float().to(device),
        projection=projection.float().to(device),
        directions=len(basis),
        within=_tensor(identity.within)[columns].float().to(device),
        between=_tensor(identity.between)[columns].float().to(device),
    )


def load_identifier(bank: Bank, device: torch.device) -> Identifier | None:
    """The bank's identifier; None for banks of format version 1, which have none.

    Raises:
        FormatError: the identity file is damaged.
    """
    if not bank.manifest.identity:
        return None
    return make_identifier(read_identity(bank)[1], bank.identity_tag(), device)


def sign_task(
    identifier: Identifier | None, backbone: Backbone, images: Images, calibration: Tensor | None
) -> bytes | None:
    """The signature of a task with these training images; None in a bank that has no identifier."""
    if identifier is None:
        return None
    return encode_signature(identifier, image_features(backbone, images, calibration).mean(0))


def encode_signature(identifier: Identifier, mean: Tensor) -> bytes:
    """Tag and 64 bytes for the mean features (D,) of a task's training images."""
    place = identifier.project(mean).cpu()
    levels = (place[: identifier.directions] / _byte_step(identifier)).round().clamp(-127, 127)
    rest = place[identifier.directions :]
    size = float((rest.square().mean() / identifier.spread.cpu()).sqrt().clamp(min=1e-30))
    gain = min(max(round(_GAIN_STEPS * math.log2(size)) + _GAIN_ZERO, 0), 255)
    signs = np.packbits((rest > 0).numpy(), bitorder="little")
    return identifier.tag + levels.to(torch.int8).numpy().tobytes() + bytes([gain]) + signs.tobytes()


def decode_signatures(identifier: Identifier, signatures: Sequence[bytes]) -> Places:
    """Positions of T tasks, as well as their signatures tell."""
    rows = np.frombuffer(b"".join(signatures), np.uint8).reshape(-1, TAG_BYTES + SIGNATURE_BYTES)[:, TAG_BYTES:]
    count = identifier.directions
    device = identifier.center.device
    levels = torch.from_numpy(rows[:, :count].astype(np.int8).astype(np.float32)) * _byte_step(identifier)
    bits = np.unpackbits(rows[:, count + 1 :], axis=1, bitorder="little")
    gain = torch.exp2((torch.from_numpy(rows[:, count].astype(np.float32)) - _GAIN_ZERO) / _GAIN_STEPS)
    return Places(levels.to(device), (torch.from_numpy(bits).float() * 2 - 1).to(device), gain.to(device))


def log_ratios(identifier: Identifier, means: Tensor, images: int, places: Places, drift: float = 0.0) -> Tensor:
    """How much likelier mean features are for each task than for a task drawn anew, in nats.

    A task drawn anew lies as far out as the images do, at least as far as the basis' tasks on average.

    Args:
        means: (g, D), each the mean over `images` images.
        places: decoded signatures of T tasks.
        drift: how far, in units of the variance within a task, images asked about may lie from those of training
            however many they are: other writers, other light.

    Returns:
        (g, T).
    """
    count = identifier.directions
    query = identifier.project(means)
    noise = identifier.within * (1 / images + drift)
    # In the directions, held as bytes: (g, T) squared distances in units of the noise, by the binomial formula.
    near, weighted = query[:, :count], query[:, :count] / noise[:count]
    distance = (near * weighted).sum(1)[:, None] - 2 * weighted @ places.directions.T
    distance = distance + places.directions.square() @ (1 / noise[:count])
    likelihood = -(distance + noise[:count].log().sum())
    # In the others a sign stands for a normal variable of the task's gain: its mean size, and its variance.
    far, columns = query[:, count:], query.shape[1] - count
    size = _SIGN_MEAN * (identifier.spread.sqrt() * places.gain)
    variance = noise[-1] + _SIGN_SPREAD * identifier.spread * places.gain.square()
    distance = far.square().sum(1)[:, None] - 2 * far @ places.signs.T * size + columns * size.square()
    likelihood = likelihood - distance / variance - columns * variance.log()
    for values, own, spread in (
        (near, noise[:count], identifier.between[:count]),
        (far, noise[count:], identifier.between[count:]),
    ):
        if values.shape[1]:
            stretch = ((values.square() - own) / spread).mean(1, keepdim=True).clamp(min=1.0)
            unknown = own + spread * stretch
            likelihood = likelihood + (values.square() / unknown + unknown.log()).sum(1, keepdim=True)
    return 0.5 * likelihood


def _nuisances(within: Tensor) -> Tensor:
    """(D, r) Z such that 1 - Z Z' evens out the r largest variances of images of one task to the mean of the others."""
    count = min(_NUISANCES, len(within) // 2)
    block = torch.from_numpy(random_words(0, "identity/subspace", len(within) * (count + 16)) / 2.0**64 - 0.5)
    block = block.reshape(len(within), -1)[:, : len(within)]
    for _ in range(_SUBSPACE_STEPS):  # the largest eigenvectors, without the other thousands
        block = torch.linalg.qr(within @ block)[0]
    values, rotation = torch.linalg.eigh(block.T @ within @ block)
    values, vectors = values.flip(0)[:count], (block @ rotation).flip(1)[:, :count]
    rest = (within.trace() - values.sum()).clamp(min=0) / len(within)
    shrink = 1 - (rest / values.clamp(min=1e-12)).sqrt()
    kept: Tensor = vectors[:, shrink > 0] * shrink[shrink > 0].sqrt()
    return kept


def _cleaner(nuisance: Tensor) -> Tensor:
    return torch.eye(len(nuisance), dtype=nuisance.dtype) - nuisance @ nuisance.T


def _explained(places: Tensor) -> tuple[float, Tensor]:
    """Share of each task's squared distance from the others' mean that lies in the others' span; and that distance.

    Each task is left out in turn: that is what the directions do for a task that is new.
    """
    if len(places) < 3:
        return 0.0, (places - places.mean(0)).square().sum(1).mean() * len(places) / max(len(places) - 1, 1)
    inside, whole = [], []
    for index, place in enumerate(places):
        others = torch.cat([places[:index], places[index + 1 :]])
        offset = place - others.mean(0)
        inside.append((_top(others - others.mean(0), min(len(others) - 1, MOST_DIRECTIONS)) @ offset).square().sum())
        whole.append(offset.square().sum())
    return float(sum(inside) / sum(whole)), torch.stack(whole).mean()


def _top(places: Tensor, count: int) -> Tensor:
    """Directions (count, D) of largest variance of the centred rows, each with its largest entry positive."""
    found: Tensor = torch.linalg.svd(places, full_matrices=False)[2][:count]
    return found * found.gather(1, found.abs().argmax(1, keepdim=True)).sign()


def _quantised(columns: Tensor, step: float, levels: int) -> tuple[Tensor, Tensor]:
    """Integer levels of (D, r), and the step of each column as float32 will hold it."""
    steps = (columns.square().mean(0).sqrt() * step).float().double().clamp(min=1e-12)
    return (columns / steps).round().clamp(-levels, levels), steps


def _byte_step(identifier: Identifier) -> Tensor:
    spread: Tensor = identifier.between[: identifier.directions].sqrt().cpu()
    return spread * (_RANGE / 127)


def _half(values: Tensor) -> Tensor:
    return values.half().double()


def _tensor(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    return torch.from_numpy(values.astype(np.float64))
