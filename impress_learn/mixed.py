"""One batch whose images belong to different tasks, of any number that are stored: one forward for all that it can be.

    loaded = load_bank(open_bank("photos.impress"), torch.device("cpu"))
    logits = mixed(loaded, images, ["cats", "dogs", "cats"])       # images (3, *input_shape), normalised

- Heads without a residual share features: one forward of the network, and a product of a row for each image.
- Tasks that weigh masks alone share the products: W_eff x = sum_k alpha_k (M_k * W) x, so that K products of each layer
  serve the whole batch, and no task's weights are built.
- All others, and all of a network whose norm statistics are taken under a task's weights, are built, one task after
  the other, each for all of its images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import linear

from impress_format.errors import UsageError
from impress_format.records import alpha_columns
from impress_format.task_parts import StoredTask
from impress_learn.basis import refine
from impress_learn.fits import require
from impress_learn.head.features import features
from impress_learn.identify.candidates import common_granularity
from impress_learn.layer_masks import LayerMasks, group_of_channel
from impress_learn.loaded import LoadedBank


def mixed(loaded: LoadedBank, images: Tensor, tasks: Sequence[str]) -> Tensor:
    """Logits (batch, most classes) of normalised images (batch, *input_shape), each under the task named beside it.

    Equal within rounding to asking for each image alone; -inf for classes that a task does not have.

    Args:
        tasks: names of stored tasks, one for each image.

    Raises:
        UsageError: another number of tasks than of images, or none.
        TaskNotFound, FormatError: as Bank.read_stored.
    """
    require(len(tasks) == len(images) > 0, f"{len(images):,} images and {len(tasks):,} tasks: expected one for each")
    stored = {name: loaded.bank.read_stored(name) for name in dict.fromkeys(tasks)}
    rows: dict[str, list[int]] = {"head": [], "alpha": []}
    alone: dict[str, list[int]] = {}
    for row, name in enumerate(tasks):
        kind = _kind(loaded, stored[name])
        (alone.setdefault(name, []) if kind is None else rows[kind]).append(row)
    parts: list[tuple[list[int], Tensor]] = []
    with torch.no_grad():
        for kind, together in (("head", _by_heads), ("alpha", _by_products)):
            if chosen := rows[kind]:
                parts.append((chosen, together(loaded, images[chosen], [stored[tasks[row]] for row in chosen])))
        parts += [
            (chosen, loaded.logits(loaded.weights_of(stored[name]), images[chosen])) for name, chosen in alone.items()
        ]
    classes = max(logits.shape[1] for _, logits in parts)
    result = images.new_full((len(images), classes), -torch.inf)
    for chosen, logits in parts:
        result[torch.tensor(chosen, device=images.device), : logits.shape[1]] = logits
    return result


def _kind(loaded: LoadedBank, stored: StoredTask) -> str | None:
    """What shares work with others of its kind; None for a task that is built."""
    if stored.residual is not None or stored.mask is not None:
        return None
    if stored.head is not None:
        return "head"
    return None if loaded.calibration is not None else "alpha"


def _by_heads(loaded: LoadedBank, images: Tensor, tasks: Sequence[StoredTask]) -> Tensor:
    """Logits of tasks with a head and no residual."""
    placed = loaded.projection.project(features(loaded.adapted, loaded.adapted.weights, images))
    heads = [task.head for task in tasks if task.head is not None]
    classes, dimensions = (max(head.weight.shape[axis] for head in heads) for axis in (0, 1))
    weight = torch.zeros(len(heads), classes, dimensions)
    bias = torch.full((len(heads), classes), -torch.inf)
    for row, head in enumerate(heads):
        weight[row, : head.weight.shape[0], : head.weight.shape[1]] = torch.from_numpy(head.weight)
        bias[row, : len(head.bias)] = torch.from_numpy(head.bias)
    weight, bias = weight.to(images.device), bias.to(images.device)
    return torch.einsum("bcd,bd->bc", weight, placed[:, :dimensions]) + bias


def _by_products(loaded: LoadedBank, images: Tensor, tasks: Sequence[StoredTask]) -> Tensor:
    """Logits of tasks that weigh masks alone, by K products in each layer.

    Raises:
        UsageError: a layer does something else with its weight than a linear or a convolutional one.
    """
    layers = loaded.bank.backbone.masked_layers
    channels = [layer.shape[0] for layer in layers]
    common = common_granularity({task.record.granularity for task in tasks}, channels)
    masks, columns = max(len(task.alpha) for task in tasks), alpha_columns(layers, common)
    alpha = torch.zeros(len(tasks), masks, sum(columns))
    for row, task in enumerate(tasks):
        own = refine(torch.from_numpy(task.alpha), channels, task.record.granularity, common)
        alpha[row, : len(own)] = own
    weights: dict[str, Tensor] = {}
    of_layers = alpha.to(images.device).split(columns, dim=2)
    for coefficients, (name, own_masks) in zip(of_layers, loaded.basis.layers.items(), strict=True):
        shape = loaded.basis.shapes[name]
        groups = group_of_channel(shape[0], coefficients.shape[2], images.device)
        weights[name] = _Mixture.of(coefficients[:, :, groups], own_masks, shape)
    logits: Tensor = functional_call(loaded.backbone.module, weights, (images,))
    if bool(logits.isnan().any()):
        raise UsageError(
            f"{loaded.bank.backbone.arch} does not use its weights as linear and convolutional layers do: ask for one "
            "task at a time"
        )
    return logits


class _Mixture(torch.Tensor):
    """Stands for the weight of a layer, another for each image: (sum_k alpha[b, k] M_k) * W, which is never built.

    Its own values are NaN: what uses them otherwise than to multiply by them shows.
    """

    coefficients: Tensor
    masks: LayerMasks
    kernel: torch.Size

    @staticmethod
    def of(coefficients: Tensor, masks: LayerMasks, shape: torch.Size) -> _Mixture:
        """Of coefficients (B, K, output channels)."""
        values = torch.full((1,), torch.nan, device=coefficients.device).expand(shape)
        made: _Mixture = values.as_subclass(_Mixture)
        made.coefficients, made.masks, made.kernel = coefficients, masks, shape
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (linear, torch.conv2d) and isinstance(args[1], _Mixture):
            return args[1].product(func, *args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]

    def product(
        self,
        func: Callable[..., Tensor],
        inputs: Tensor,
        _: Tensor,
        bias: Tensor | None = None,
        *settings: Any,
        **named: Any,
    ) -> Tensor:
        """What the layer gives for inputs (B, ...): the K products, each weighed for each image."""
        channel = inputs.ndim - 1 if func is linear else 1
        shape = [1] * inputs.ndim
        shape[0], shape[channel] = len(inputs), self.kernel[0]
        total: Tensor | None = None
        for k in range(self.coefficients.shape[1]):
            weight = self.masks.one(k).reshape(self.kernel)
            part = func(inputs, weight, None, *settings, **named) * self.coefficients[:, k].reshape(shape)
            total = part if total is None else total + part
        assert total is not None
        if bias is None:
            return total
        return total + bias.reshape([-1 if axis == channel else 1 for axis in range(inputs.ndim)])
