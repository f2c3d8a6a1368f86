"""A pretrained network moved towards a bank's tasks, once, for all heads that will stand on it (docs/method.md, Heads).

The last layers learn to tell all classes of these tasks apart, slowly; what they moved by is rounded to a few bits a
weight. A new task's classes are none of these, and yet its features become better: what is learned is what images here
are like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impress_format.bank_files.adaptation import StoredAdaptation
from impress_format.records.fields import ValueBits
from impress_format.records.network import LayerSpec
from impress_learn.features.features import AT_ONCE, in_parts
from impress_learn.features.trainable_suffix import CachedActivations, cache_activations, cut_off
from impress_learn.masks.quantise import codes_of, levels_of
from impress_learn.network.backbone import Backbone
from impress_learn.streams.images import Images, evenly_spread
from impress_learn.training.config import TaskTraining, steps_per_epoch
from impress_learn.training.loop import Rows, minimise

BITS: ValueBits = 4
"""Bits of a weight delta. With two bits heads lost half a point."""
RATE = 1e-4
"""Adam's, chosen on held-out images: with three times that a head of few images lost what others gained."""
_SHARE = 0.95
"""Share of the weights before the classifier that is fine-tuned. The layers before would take as long again."""
_PROBED, _PROBE_STEPS, _PROBE_RATE = 10_000, 1_000, 1e-3
"""Images, steps and rate with which the classifier is learned that begins beside them."""
_CLASSIFIER = 10.0
"""What the classifier that is learned beside them moves by, for each step of a weight."""
_SPREAD = 0.3
"""Deviation of features as that classifier sees them."""


@dataclass(frozen=True, eq=False)
class _Joined:
    """Several tasks as one, their classes told apart."""

    parts: Sequence[CachedActivations]
    classes: Sequence[int]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    def batch(self, indices: Tensor | slice, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """What the tail takes of these images, those of one task together, and their labels among all classes."""
        rows = torch.arange(len(self), device=self.device)[indices]
        found, first, class_ = [], 0, 0
        for part, classes in zip(self.parts, self.classes, strict=True):
            inside = rows[(rows >= first) & (rows < first + len(part))] - first
            if len(inside):
                values, labels = part.batch(inside, generator)
                found.append((values, labels + class_))
            first, class_ = first + len(part), class_ + classes
        return torch.cat([values for values, _ in found]), torch.cat([labels for _, labels in found])


def adapt(
    backbone: Backbone,
    tasks: Sequence[tuple[Images, int]],
    epochs: int,
    seed: int,
    *,
    on_step: Callable[[], None],
) -> StoredAdaptation:
    """Learn to tell all classes of these tasks apart, and round what the weights moved by.

    Args:
        tasks: training images, and how many classes they are of.

    Raises:
        TrainingDiverged: loss or weights became NaN or infinite.
    """
    layers = backbone.spec.last_layers_holding(_SHARE)
    fine_tuned = backbone.spec.adapted_layers(layers)
    suffix = cut_off(backbone, [layer.name for layer in fine_tuned])
    joined = _Joined(
        [
            cache_activations(suffix, images, augmented=1, seed=seed + number)
            for number, (images, _) in enumerate(tasks)
        ],
        [classes for _, classes in tasks],
    )
    weights = {layer.name: backbone.weights[layer.name].clone().requires_grad_() for layer in fine_tuned}
    seen = _features(joined, suffix.features, weights)
    mean, unit = seen.values.mean(0), _SPREAD / seen.values.std().clamp(min=1e-12)
    classes = sum(joined.classes)
    classifier = torch.zeros(classes, len(mean), device=joined.device, requires_grad=True)
    bias = torch.zeros(classes, device=joined.device, requires_grad=True)

    def classify(features: Tensor) -> Tensor:
        return _CLASSIFIER * ((features - mean) * unit @ classifier.T + bias)

    # The classifier first: features would be torn to where one that knows nothing wants them (Kumar et al. 2022).
    batches = steps_per_epoch(len(seen), TaskTraining().batch_size)
    probe = TaskTraining(epochs=-(-_PROBE_STEPS // batches), lr=_PROBE_RATE, seed=seed)
    minimise(classify, [classifier, bias], seen, probe, on_step=lambda: None)
    fit = TaskTraining(epochs=epochs, lr=RATE, warmup=1 if epochs > 1 else 0, seed=seed)
    minimise(
        lambda activations: classify(suffix.features(weights, activations)),
        [*weights.values(), classifier, bias],
        joined,
        fit,
        on_step=on_step,
    )
    return _rounded(backbone, fine_tuned, {name: one.detach() for name, one in weights.items()}, layers)


def _features(
    joined: _Joined, features: Callable[[dict[str, Tensor], Tensor], Tensor], weights: dict[str, Tensor]
) -> Rows:
    """Features of images of all tasks before anything is learned."""
    some = evenly_spread(len(joined), _PROBED).to(joined.device)
    values, labels = [], []
    with torch.no_grad():
        for part in some.split(AT_ONCE):
            activations, row_labels = joined.batch(part)
            values.append(in_parts(lambda batch: features(weights, batch), activations))
            labels.append(row_labels)
    return Rows(torch.cat(values), torch.cat(labels))


def _rounded(
    backbone: Backbone, fine_tuned: Sequence[LayerSpec], weights: dict[str, Tensor], layers: int
) -> StoredAdaptation:
    codes, steps = [], []
    for layer in fine_tuned:
        rows, scales = codes_of((weights[layer.name] - backbone.weights[layer.name]).flatten(1).cpu(), BITS)
        codes.append(rows.flatten())
        steps.append(scales[:, 0])
    return StoredAdaptation(
        layers=layers,
        bits=BITS,
        codes=torch.cat(codes).to(torch.uint8).numpy(),
        steps=torch.cat(steps).half().numpy(),
    )


def adapted(backbone: Backbone, fine_tuned: StoredAdaptation | None) -> Backbone:
    """The network whose features heads read: moved towards the bank's tasks, where it was; else itself.

    Args:
        fine_tuned: of the bank's projection (`Projection.fine_tuned`).
    """
    return backbone if fine_tuned is None else backbone.with_weights(_moved_weights(backbone, fine_tuned))


def _moved_weights(backbone: Backbone, stored: StoredAdaptation) -> dict[str, Tensor]:
    """The weights of the layers that were moved, float32: W + (2u - (2^b - 1)) * step of the channel."""
    found, at, channel = {}, 0, 0
    for layer in backbone.spec.adapted_layers(stored.layers):
        weight = backbone.weights[layer.name]
        codes = torch.from_numpy(stored.codes[at : at + layer.size].astype("float32")).reshape(len(weight), -1)
        steps = torch.from_numpy(stored.steps[channel : channel + len(weight)].astype("float32"))
        by = (levels_of(codes, stored.bits) * steps[:, None]).reshape(weight.shape)
        found[layer.name] = weight + by.to(weight.device)
        at, channel = at + layer.size, channel + len(weight)
    return found
