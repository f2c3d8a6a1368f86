"""A small network that tells a bank's tasks apart, and so places tasks it has never seen (docs/method.md, Which task).

It is trained once, on images of the tasks that the bank's masks are of, to say which task an image is of. Its outputs,
turned by a linear discriminant so that images of one task spread by 1 in each, are the positions of an image; a task
that is new lies between those it knows. It sees pixels: of random features, and of a frozen random network's, both
worse were measured (docs/trials.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from impress_format.bank import Bank
from impress_format.bank_files.task_classifier import (
    MOST_POSITIONS,
    TASK_CLASSIFIER,
    StoredTaskClassifier,
    feature_shape,
)
from impress_format.parts.numbers import FloatArray
from impress_format.parts.pixel_signature import count_signs
from impress_format.weights import random_words, substream_seed
from impress_learn.streams.images import Images, ImagesInMemory, evenly_spread
from impress_learn.training.config import TaskTraining, steps_per_epoch
from impress_learn.training.loop import minimise

MOST_IMAGES = 1 << 18
"""That a task classifier is trained on: more gave no better positions."""
_HIDDEN = 128
"""192 were no better on held-out MNIST, 64 were worse."""
_TRAINING = TaskTraining(lr=2e-3, batch_size=512)
_PASSES = 5
_LEAST_STEPS = 300
_BATCHES, _LEAST_BATCH = 64, 32
"""Fewest batches in a pass, and fewest images in a batch, where images are few."""
_LEVEL = 0.4
"""Step of the 15 levels of a weight, in root mean squares of its column: as good as float."""
_MOST_LEVEL = 7
_RIDGE = 1e-3
_NEARLY_CONSTANT = 0.05
"""Added to each deviation, relative to their mean: a pixel at the rim must not outweigh the others."""
_AT_ONCE = 8192
_SIGN_POWER = 1.5
"""Exponent of the share of independent signs. Chosen on held-out MNIST (docs/trials.md, By signature)."""


@dataclass(frozen=True, eq=False)
class TaskClassifier:
    """A task classifier, ready to run.

    Attributes:
        tag: what signatures made with it begin with.
        center, scale: (D,).
        hidden: (D, h).
        output: (h, m).
        between: (m,), variance of tasks in each position.
        directions: (D, signs), each 1/sqrt(D) or its negative.
        sign_weight: what the score of signs counts.
    """

    tag: bytes
    shape: tuple[int, int, int]
    """Shape of its input (feature_shape)."""
    center: Tensor
    scale: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    output_bias: Tensor
    between: Tensor
    directions: Tensor
    sign_weight: float

    @property
    def device(self) -> torch.device:
        return self.center.device

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Where normalised images (n, *input_shape) lie: positions (n, m), and projections on random directions."""
        scaled = (features(images, self.shape) - self.center) / self.scale
        return torch.relu(scaled @ self.hidden + self.hidden_bias) @ self.output + self.output_bias, (
            scaled @ self.directions
        )


def load_task_classifier(bank: Bank, device: torch.device) -> TaskClassifier | None:
    """The bank's task classifier on `device`; None if it has none.

    Raises:
        FormatError: its file is missing or damaged.
    """
    if not bank.manifest.recogniser:
        return None
    record, stored = bank.files.read(TASK_CLASSIFIER)
    return make_task_classifier(stored, record.tag, bank.backbone.input_shape, device)


def make_task_classifier(
    stored: StoredTaskClassifier, tag: bytes, shape: tuple[int, int, int], device: torch.device
) -> TaskClassifier:
    """A task classifier of images of this shape, on `device`."""
    seen = feature_shape(shape)
    count = prod(seen)
    words = random_words(0, "recogniser", -(-count * stored.signs // 64)).astype("<u8").view(np.uint8)
    bits = np.unpackbits(words, count=count * stored.signs, bitorder="little").reshape(count, stored.signs)

    def on_device(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    return TaskClassifier(
        tag=tag,
        shape=seen,
        center=on_device(stored.center),
        scale=on_device(stored.scale),
        hidden=on_device(stored.hidden) * on_device(stored.hidden_step),
        hidden_bias=on_device(stored.hidden_bias),
        output=on_device(stored.output),
        output_bias=on_device(stored.output_bias),
        between=on_device(stored.between),
        directions=(on_device(bits) * 2 - 1) / math.sqrt(count),
        sign_weight=stored.sign_weight,
    )


def features(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """What a task classifier sees of images (n, C, H, W): a row each, pooled to `shape` where they are larger."""
    return (images if images.shape[1:] == shape else adaptive_avg_pool2d(images, shape[1:])).flatten(1)


def signature_images(images: int) -> Tensor:
    """Which of a task's training images a signature is made from: every fifth, or all where these would be few.

    No task classifier is trained on these (`learning_images`): of images that it has seen it is too sure.
    """
    every = torch.arange(images)
    return every if images < 1000 else every[every % 5 == 4]


def learning_images(images: int, tasks: int) -> Tensor:
    """Which of the training images of each of `tasks` tasks a task classifier is trained on."""
    every = torch.arange(images)
    kept = every[every % 5 != 4]
    return kept[evenly_spread(len(kept), max(1, MOST_IMAGES // tasks))]


def train_task_classifier(
    learning: Sequence[Images], signing: Sequence[Images], shape: tuple[int, int, int], seed: int
) -> StoredTaskClassifier:
    """Train on images of K tasks; others of the same tasks tell how images of one task spread.

    With one task there is nothing to tell apart: the task classifier then has no positions, and signatures signs only.

    Args:
        learning, signing: for each task the images of `learning_images` and of `signature_images`.
        shape: of the images.

    Raises:
        TrainingDiverged: the loss became NaN or infinite.
    """
    seen = feature_shape(shape)
    images = ImagesInMemory(
        torch.cat([one.pixels_of(slice(None)) for one in learning]),
        torch.cat([torch.full((len(one),), task, device=one.device) for task, one in enumerate(learning)]),
        learning[0].mean,
        learning[0].std,
    )
    center, scale = _scaling(images, seen)
    held_out = [(features(one.batch(slice(None))[0], seen) - center) / scale for one in signing]
    network = _Network.none(len(center))
    if len(learning) > 1:
        network = _train(images, lambda batch: (features(batch, seen) - center) / scale, len(learning), seed)
        network = _turned(network, held_out)
    within = torch.stack([torch.cov(one.T.double()) for one in held_out]).mean(0)
    independent = float(within.trace() ** 2 / within.square().sum().clamp(min=1e-30))
    signs = count_signs(len(network.between))
    return StoredTaskClassifier(
        center=center.cpu().numpy().astype(np.float16),
        scale=scale.cpu().numpy().astype(np.float16),
        hidden=network.levels.cpu().numpy().astype(np.int8),
        hidden_step=_float(network.step),
        hidden_bias=_float(network.bias),
        output=_float(network.output),
        output_bias=_float(network.output_bias),
        between=_float(network.between),
        sign_weight=min(1.0, independent / signs) ** _SIGN_POWER,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Network:
    """Weights as StoredTaskClassifier has them."""

    levels: Tensor
    step: Tensor
    bias: Tensor
    output: Tensor
    output_bias: Tensor
    between: Tensor

    @staticmethod
    def none(features: int) -> _Network:
        empty = torch.zeros(0)
        return _Network(
            levels=torch.zeros(features, 0),
            step=empty,
            bias=empty,
            output=torch.zeros(0, 0),
            output_bias=empty,
            between=empty,
        )

    def __call__(self, scaled: Tensor) -> Tensor:
        return torch.relu(scaled @ (self.levels * self.step) + self.bias) @ self.output + self.output_bias


def _scaling(images: Images, seen: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature, rounded as they are stored."""
    total = squares = torch.zeros(prod(seen), dtype=torch.float64, device=images.device)
    for start in range(0, len(images), _AT_ONCE):
        part = features(images.batch(slice(start, start + _AT_ONCE))[0], seen).double()
        total, squares = total + part.sum(0), squares + part.square().sum(0)
    mean = total / len(images)
    deviation = (squares / len(images) - mean.square()).clamp(min=0).sqrt()
    scale = (deviation + _NEARLY_CONSTANT * deviation.mean()).clamp(min=1e-4)
    return mean.half().float(), scale.half().float()


def _train(images: Images, scaled: Callable[[Tensor], Tensor], tasks: int, seed: int) -> _Network:
    """Learn to say which task an image is of; the first layer is then rounded to 15 levels."""
    generator = torch.Generator().manual_seed(substream_seed(seed, "recogniser"))
    count = scaled(images.batch(slice(0, 1))[0]).shape[1]

    def drawn(rows: int, columns: int) -> Tensor:
        uniform = torch.rand(rows, columns, generator=generator) * 2 - 1
        return (uniform / math.sqrt(rows)).to(images.device).requires_grad_()

    hidden, output = drawn(count, _HIDDEN), drawn(_HIDDEN, tasks)
    bias = torch.zeros(_HIDDEN, device=images.device, requires_grad=True)
    output_bias = torch.zeros(tasks, device=images.device, requires_grad=True)
    batch = min(max(len(images) // _BATCHES, _LEAST_BATCH), _TRAINING.batch_size)
    epochs = max(_PASSES, math.ceil(_LEAST_STEPS / steps_per_epoch(len(images), batch)))
    minimise(
        lambda given: torch.relu(scaled(given) @ hidden + bias) @ output + output_bias,
        [hidden, bias, output, output_bias],
        images,
        replace(_TRAINING, batch_size=batch, epochs=epochs, seed=generator.initial_seed()),
        on_step=lambda: None,
    )
    with torch.no_grad():
        step = (hidden.square().mean(0).sqrt() * _LEVEL).clamp(min=1e-12)
        levels = (hidden / step).round().clamp(-_MOST_LEVEL, _MOST_LEVEL)
    return _Network(
        levels=levels,
        step=step.detach(),
        bias=bias.detach(),
        output=output.detach(),
        output_bias=output_bias.detach(),
        between=torch.zeros(tasks),
    )


def _turned(network: _Network, held_out: Sequence[Tensor]) -> _Network:
    """The network with outputs in which images of one task spread by 1 in each, and tasks most in the first."""
    outputs = [network(one).double().cpu() for one in held_out]
    means = torch.stack([one.mean(0) for one in outputs])
    within = torch.stack([torch.cov(one.T) for one in outputs]).mean(0)
    values, vectors = torch.linalg.eigh(within)
    white = vectors * (values + _RIDGE * values.mean()).clamp(min=1e-12).rsqrt()
    apart = (means - means.mean(0)) @ white
    count = min(len(means) - 1, MOST_POSITIONS)
    found = torch.linalg.svd(apart, full_matrices=False)[2][:count]
    found = found * found.gather(1, found.abs().argmax(1, keepdim=True)).sign()
    turn = white @ found.T
    between = (apart @ found.T).square().sum(0) / (len(means) - 1)
    output, bias = network.output.double().cpu() @ turn, (network.output_bias.double().cpu() - means.mean(0)) @ turn
    return replace(
        network,
        output=output.float().to(network.bias.device),
        output_bias=bias.float().to(network.bias.device),
        between=between.clamp(min=1e-6).float(),
    )


def _float(values: Tensor) -> FloatArray:
    return values.cpu().numpy().astype(np.float32)
