"""One batch whose images belong to different tasks, of any number that are stored: one forward for all that it can be.

    loaded = load_bank(open_bank("photos.impress"), torch.device("cpu"))
    logits = mixed(loaded, images, ["cats", "dogs", "cats"])       # images (3, *input_shape), normalised
    cache = cache_tasks(loaded.bank)                                 # for batch after batch: task_cache.py
    logits = mixed(loaded, images, ["cats", "dogs", "cats"], cache)

- Heads without a residual share features: one forward of the network, and a product of a row for each image.
- Tasks that weigh masks alone share the products: W_eff x = sum_k alpha_k (M_k * W) x, so that K products of each layer
  serve the whole batch, and no task's weights are built.
- All others, and all of a network whose norm statistics are taken under a task's weights, are built, one task after
  the other, each for all of its images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import linear

from impress_format.errors import UsageError
from impress_format.parts.alpha import ALPHA, alpha_columns
from impress_format.parts.head import HEAD, StoredHead
from impress_format.parts.numbers import FloatArray
from impress_format.parts.table import count_classes
from impress_format.tasks.file import StoredTask
from impress_learn.features.features import frozen_features
from impress_learn.masks.basis import LayerMasks, common_granularity, refine
from impress_learn.masks.layer_masks import group_of_channel
from impress_learn.network.functional import functional_call
from impress_learn.network.parameters import is_recurrent
from impress_learn.running.loaded import RunningBank
from impress_learn.running.task_cache import TaskBatch, TaskCache
from impress_learn.training.config import require

Rows = npt.NDArray[np.intp]
"""Places in the batch."""


def mixed(loaded: RunningBank, images: Tensor, tasks: Sequence[str], cache: TaskCache | None = None) -> Tensor:
    """Logits (batch, most classes) of normalised images (batch, *input_shape), each under the task named beside it.

    Equal within rounding to asking for each image alone; -inf for classes that a task does not have.

    Args:
        tasks: names of stored tasks, one for each image.
        cache: of `cache_tasks`, for batch after batch: what is in it is not read from the bank again.

    Raises:
        UsageError: another number of tasks than of images, or none; tasks kept of another bank.
        TaskNotFound, FormatError: as Bank.read_stored.
    """
    require(len(tasks) == len(images) > 0, f"{len(images):,} images and {len(tasks):,} tasks: expected one for each")
    if cache is not None:
        require(cache.bank == loaded.bank.path, f"these tasks are kept of {cache.bank}, the bank is {loaded.bank.path}")
    batches, alone = _sorted(loaded, tasks, cache)
    heads = [(rows, batch.heads(places)) for batch, rows, places in batches if batch.heads is not None]
    alphas = [
        (rows, (batch.granularity, batch.alpha(places))) for batch, rows, places in batches if batch.heads is None
    ]
    counts = [(rows, batch.classes) for batch, rows, _ in batches]
    parts: list[tuple[Rows, Tensor]] = []
    with torch.no_grad():
        if heads:
            rows = np.concatenate([rows for rows, _ in heads])
            parts.append((rows, _by_heads(loaded, images[rows], [head for _, head in heads])))
        if alphas:
            rows = np.concatenate([rows for rows, _ in alphas])
            parts.append((rows, _by_products(loaded, images[rows], [alpha for _, alpha in alphas])))
        for rows, stored in alone:
            count = count_classes(loaded.bank.manifest, stored.record.settings)
            parts.append((rows, loaded.logits(loaded.weights_of(stored), images[rows], count)))
            counts.append((rows, count))
    classes = max(logits.shape[1] for _, logits in parts)
    result = images.new_full((len(images), classes), -torch.inf)
    for rows, logits in parts:
        result[torch.from_numpy(rows).to(images.device), : logits.shape[1]] = logits
    for rows, count in counts:
        if count < classes:
            result[torch.from_numpy(rows).to(images.device), count:] = -torch.inf
    return result


def _sorted(
    loaded: RunningBank, tasks: Sequence[str], cache: TaskCache | None
) -> tuple[list[tuple[TaskBatch, Rows, Rows]], list[tuple[Rows, StoredTask]]]:
    """The rows of a batch whose tasks share work with others, in batches, with their places there; and those of tasks
    that
    are built, each alone.
    """
    # Statistics under a task's own weights take its weights.
    shares_products = loaded.calibration is None and not is_recurrent(loaded.backbone.module)
    batches: list[tuple[TaskBatch, Rows, Rows]] = []
    alone: list[tuple[Rows, StoredTask]] = []
    rest: dict[str, list[int]] = {}
    known: list[int] = []
    for row, name in enumerate(tasks):
        if cache is not None and shares_products and name in cache:
            known.append(row)
        else:
            rest.setdefault(name, []).append(row)
    if cache is not None:
        of_known = np.array(known, dtype=np.intp)
        batches += [
            (batch, of_known[chosen], places) for batch, chosen, places in cache.find([tasks[row] for row in known])
        ]
    for name, of_name in rest.items():
        stored, rows = loaded.bank.read_stored(name), np.array(of_name, dtype=np.intp)
        if stored.only == HEAD.name or (stored.only == ALPHA.name and shares_products):
            batch = TaskBatch.of_one(stored, count_classes(loaded.bank.manifest, stored.record.settings))
            batches.append((batch, rows, np.zeros(len(rows), dtype=np.intp)))
        else:
            alone.append((rows, stored))
    return batches, alone


def _by_heads(loaded: RunningBank, images: Tensor, heads: Sequence[StoredHead]) -> Tensor:
    """Logits of tasks with a head and no residual, batch after batch."""
    projected = loaded.projection.project(frozen_features(loaded.adapted, images))
    classes, dimensions = (max(head.weight.shape[axis] for head in heads) for axis in (1, 2))
    weight = torch.zeros(len(images), classes, dimensions)
    bias = torch.full((len(images), classes), -torch.inf)
    row = 0
    for head in heads:
        count, n_classes, width = head.weight.shape
        weight[row : row + count, :n_classes, :width] = torch.from_numpy(head.weight)
        bias[row : row + count, :n_classes] = torch.from_numpy(head.bias)
        row += count
    weight, bias = weight.to(images.device), bias.to(images.device)
    return torch.einsum("bcd,bd->bc", weight, projected[:, :dimensions]) + bias


def _by_products(loaded: RunningBank, images: Tensor, batches: Sequence[tuple[int, FloatArray]]) -> Tensor:
    """Logits of tasks that weigh masks alone, by K products in each layer.

    Args:
        batches: one after the other granularity and coefficients (n, K, columns).

    Raises:
        UsageError: a layer does something else with its weight than a linear or a convolutional one.
    """
    layers = loaded.bank.backbone.masked_layers
    channels = [layer.shape[0] for layer in layers]
    common = common_granularity({granularity for granularity, _ in batches}, channels)
    masks, columns = max(values.shape[1] for _, values in batches), alpha_columns(layers, common)
    alpha = torch.zeros(len(images), masks, sum(columns))
    row = 0
    for granularity, values in batches:
        refined = refine(torch.from_numpy(values), channels, granularity, common)
        alpha[row : row + len(refined), : refined.shape[1]] = refined
        row += len(refined)
    weights: dict[str, Tensor] = {}
    of_layers = alpha.to(images.device).split(columns, dim=2)
    for of_groups, (name, masks) in zip(of_layers, loaded.basis.layers.items(), strict=True):
        shape = loaded.basis.shapes[name]
        count = of_groups.shape[2]
        coefficients = of_groups if count == 1 else of_groups[:, :, group_of_channel(shape[0], count, images.device)]
        weights[name] = _Mixture.of(coefficients, masks, shape)
    logits = loaded.answering(None).with_mirror(
        lambda seen: functional_call(loaded.backbone.module, weights, (seen,)), images
    )
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
        """A mixture by coefficients (B, K, output channels), or (B, K, 1) where all channels have the same."""
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
        shape[0], shape[channel] = len(inputs), self.coefficients.shape[2]
        total: Tensor | None = None
        for k in range(self.coefficients.shape[1]):
            part = func(inputs, self.masks.one(k).reshape(self.kernel), None, *settings, **named)
            coefficients = self.coefficients[:, k].reshape(shape)
            total = part.mul_(coefficients) if total is None else total.addcmul_(part, coefficients)
        assert total is not None
        if bias is None:
            return total
        return total + bias.reshape([-1 if axis == channel else 1 for axis in range(inputs.ndim)])
