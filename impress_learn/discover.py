"""A stream of labelled images without task labels: known tasks are recognised, others become new ones (NNs).

SupSup calls the setting NNs: not known in training, not known at test, labels not shared. The images come in chunks,
each of one task, and nobody says when the task changes. A chunk that fits no task known so far opens a new one, whose
alpha is then learned from all its chunks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from impress_format.errors import BankMismatch, TrainingDiverged, UsageError
from impress_format.records import TaskFit, TaskRecord
from impress_format.weights import permutation, substream_seed
from impress_learn.alpha import fit_alpha
from impress_learn.candidates import Mixable
from impress_learn.combine import effective_weights
from impress_learn.evaluate import LoadedBank, accuracy
from impress_learn.features import layer_features
from impress_learn.identity import decode_signatures, encode_signature, log_ratios
from impress_learn.inference import DRIFT, entropy_slopes
from impress_learn.schedule import task_epochs
from impress_learn.streams.data import Images
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import Reference, parse_references

Rule = Literal["signature", "supsup"]

_EPSILON = 0.125
"""Of SupSup's rule: a new task if T * max softmax(-slopes) < 1 + epsilon (Wortsman et al. 2020, Sec. 3.4)."""
_BATCH = 128


@dataclass(eq=False)
class _Task:
    """A task of the run: one of the bank's, or one that was opened."""

    name: str
    alpha: Tensor
    signature: bytes
    chunks: list[Tensor] = field(default_factory=list)
    feature_sum: Tensor | None = None
    parts: list[Images] = field(default_factory=list)
    of: Counter[str] = field(default_factory=Counter)
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """One task that chunks were taken for.

    Attributes:
        name: in the bank; opened by this run unless `known`.
        true: the references that chunks taken for it were of, with their numbers. Not used for any decision.
        accuracy: of the task on the measured images of its most frequent reference.
    """

    name: str
    known: bool
    true: dict[str, int]
    accuracy: float

    @property
    def chunks(self) -> int:
        """How many were taken for it."""
        return sum(self.true.values())


def discover(
    loaded: LoadedBank,
    references: Sequence[Reference],
    *,
    images: int,
    chunk: int,
    rule: Rule,
    prefix: str,
    lr: float,
    seed: int,
    data_dir: Path,
    on_chunk: Callable[[], None],
) -> list[Discovered]:
    """Run the stream: up to `images` training images of each reference in turn, `chunk` at a time; store new tasks.

    Raises:
        BankMismatch: the bank has no identity file, or its masks' own tasks have no signature.
        UsageError: a name that an opened task would get is taken.
    """
    tasks: list[_Task] = _known(loaded)
    names = set(loaded.bank.task_names())
    opened = 0
    for reference in references:
        train = load_task(reference, data_dir=data_dir).train.to(loaded.basis.device)
        order = torch.from_numpy(permutation(seed, f"discover/{reference}", len(train))).to(train.device)
        for part in order[:images].split(chunk):
            if len(part) < min(chunk, len(train)):
                continue
            piece = train.subset(part)
            features = layer_features(loaded.backbone, piece.batch(slice(None))[0], loaded.calibration)
            at = _fitting(loaded, tasks, piece, features, rule)
            if at is None:
                opened += 1
                if (name := f"{prefix}-{opened}") in names:
                    raise UsageError(f"{loaded.bank.path} has a task {name} already: give another --prefix")
                tasks.append(_Task(name, torch.zeros(0), b"", known=False))
                at = len(tasks) - 1
            _take(loaded, tasks[at], piece, features, str(reference), lr=lr, seed=seed)
            on_chunk()
    return [_finish(loaded, task, lr=lr, seed=seed, data_dir=data_dir) for task in tasks if task.of]


def _known(loaded: LoadedBank) -> list[_Task]:
    bank = loaded.bank
    if loaded.identifier is None:
        raise BankMismatch(f"{bank.path} has no identity file (format version 1): create it again")
    columns = len(bank.backbone.masked_layers)
    tasks: list[_Task] = []
    for index, plan in enumerate(bank.manifest.masks):
        signature = bank.read_mask_record(index).signature
        if plan.task is not None and signature is not None and plan.task not in {task.name for task in tasks}:
            alpha = torch.zeros(len(loaded.basis), columns)
            alpha[index] = 1.0
            tasks.append(_Task(plan.task, alpha.to(loaded.basis.device), signature))
    if not tasks:
        raise BankMismatch(f"{bank.path} has no mask with a signature: nothing tells its tasks apart")
    return tasks


def _fitting(loaded: LoadedBank, tasks: Sequence[_Task], piece: Images, features: Tensor, rule: Rule) -> int | None:
    """The task a chunk is of, None for none of these."""
    if rule == "supsup":
        alphas = torch.stack([task.alpha for task in tasks])
        mixture = torch.full((len(tasks),), 1.0 / len(tasks), device=alphas.device)
        share = torch.softmax(-entropy_slopes(loaded, Mixable(alphas, 1), piece.batch(slice(None))[0], mixture), dim=0)
        return None if len(tasks) * float(share.max()) < 1.0 + _EPSILON else int(share.argmax())
    assert loaded.identifier is not None
    places = decode_signatures(loaded.identifier, [task.signature for task in tasks])
    ratios = log_ratios(loaded.identifier, features.mean(0)[None], len(piece), places, drift=DRIFT)[0]
    return None if float(ratios.logsumexp(0)) < math.log(len(tasks)) else int(ratios.argmax())


def _take(
    loaded: LoadedBank, task: _Task, piece: Images, features: Tensor, reference: str, *, lr: float, seed: int
) -> None:
    """Give a chunk to a task; one that was opened by this run learns from it."""
    task.of[reference] += 1
    if task.known:
        return
    assert loaded.identifier is not None
    task.parts.append(piece)
    total = features.sum(0)
    task.feature_sum = total if task.feature_sum is None else task.feature_sum + total
    count = sum(len(part) for part in task.parts)
    task.signature = encode_signature(loaded.identifier, task.feature_sum / count)
    if len(task.parts) == 1:  # enough for the slopes of SupSup's rule; the rest is learned at the end
        task.alpha = _fit(loaded, task, lr=lr, seed=seed)


def _fit(loaded: LoadedBank, task: _Task, *, lr: float, seed: int) -> Tensor:
    train = _gathered(task)
    try:
        learned = fit_alpha(
            loaded.backbone,
            loaded.basis,
            train,
            epochs=task_epochs(len(train), _BATCH),
            batch_size=_BATCH,
            lr=lr,
            l1=0.0,
            granularity=1,
            seed=substream_seed(seed, f"alpha/{task.name}"),
            on_step=lambda: None,
        )
    except TrainingDiverged as error:
        raise TrainingDiverged(f"task {task.name}: {error}") from error
    return learned.to(loaded.basis.device)


def _finish(loaded: LoadedBank, task: _Task, *, lr: float, seed: int, data_dir: Path) -> Discovered:
    """Store a task that was opened; measure any on the test images of the reference most of its chunks were of."""
    ((reference, _),) = task.of.most_common(1)
    test = load_task(parse_references([reference])[0], data_dir=data_dir).test.to(loaded.basis.device)
    alpha = task.alpha if task.known else _fit(loaded, task, lr=lr, seed=seed)
    weights = effective_weights(loaded.basis, alpha)
    measured = accuracy(loaded.backbone, weights, test, loaded.calibration)
    if not task.known:
        train = _gathered(task)
        record = TaskRecord(
            name=task.name,
            task=reference,
            basis=loaded.bank.basis_digest(len(loaded.basis)),
            accuracy=measured,
            train_accuracy=accuracy(loaded.backbone, weights, train, loaded.calibration),
            fit=TaskFit(epochs=task_epochs(len(train), _BATCH), lr=lr, seed=seed),
            signature=task.signature,
        )
        loaded.bank.write_task(record, alpha.cpu().numpy())
    return Discovered(name=task.name, known=task.known, true=dict(task.of), accuracy=measured)


def _gathered(task: _Task) -> Images:
    return replace(
        task.parts[0],
        pixels=torch.cat([part.pixels for part in task.parts]),
        labels=torch.cat([part.labels for part in task.parts]),
    )
