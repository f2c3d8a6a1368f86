"""Learning one task: reference -> data -> its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from impress_format.bank import Bank
from impress_format.parts.head import HEAD, StoredHead
from impress_format.parts.vote import VOTE
from impress_format.tasks.file import StoredTask
from impress_learn.parts.part import Array, Beginning, Ground
from impress_learn.parts.table import names_of
from impress_learn.plan.tasks import TaskRequest, count_masks, settings_of
from impress_learn.progress import Progress
from impress_learn.running.accuracy import accuracy, measured_on
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.classes import TaskClasses, renumbered, stored_classes, uneven_remark
from impress_learn.streams.images import Images
from impress_learn.streams.load import TaskData, training_images
from impress_learn.tasks.added import AddedTask
from impress_learn.tasks.few import few_images
from impress_learn.tasks.head.learn import learn_head
from impress_learn.tasks.storing import Learned, naming, restore, store_task, task_seed
from impress_learn.tasks.trial import best_in_trial
from impress_learn.tasks.vote import Chosen, choose_vote
from impress_learn.tasks.weights import begin_parts, train_parts
from impress_learn.training.config import task_training


def add_task(loaded: RunningBank, request: TaskRequest, *, data_dir: Path | None, progress: Progress) -> AddedTask:
    """Learn alpha for one task from the data of its reference, and store it.

    Raises:
        As learn_task. DataError.
    """
    fit = request.fit
    data = data_of(loaded, request, data_dir, progress)
    train, measured = (
        training_images(data, fit.shots, fit.seed, request.classes.label),
        data.measured(holdout=fit.holdout),
    )
    remark_uneven(request, train, measured, progress)
    vote: Chosen | None = None
    if fit.unlabelled:
        vote = choose_vote(loaded, train, classes=request.classes, labelled=False)
        if (doubt := vote.doubt(request.name)) is not None:
            progress.remark(doubt)
    if request.instead is not None:

        def share(one: TaskRequest, rest: Images, apart: Images) -> float:
            return _learn_weights(loaded, one, rest, progress.step)[1](apart)

        request = best_in_trial(request, train, share)
    return learn_task(loaded, request, train, measured, on_step=progress.step, vote=vote)


def data_of(loaded: RunningBank, request: TaskRequest, data_dir: Path | None, progress: Progress) -> TaskData:
    """The data of a task that is to be learned.

    Raises:
        DataError: as RunningBank.stored_data.
    """
    return loaded.stored_data(
        request.reference,
        request.name,
        request.classes,
        data_dir=data_dir,
        holdout=request.fit.holdout,
        remark=progress.remark,
    )


def remark_uneven(request: TaskRequest, train: Images, measured: Images, progress: Progress) -> None:
    """Say where one class has most of the images, or a class so few that nobody can tell."""
    if not request.reference.data_set.labelled:
        return
    told = {"training images": train, f"{measured_on(request.fit.holdout)} images": measured}
    for what, images in told.items():
        counts = images.labels.bincount(minlength=request.classes.count).tolist()
        remark = uneven_remark(request.name, request.classes, counts, what, few=images is measured)
        if remark is not None:
            progress.remark(remark)


def learn_task(
    loaded: RunningBank,
    request: TaskRequest,
    train: Images,
    measured: Images,
    *,
    on_step: Callable[[], None],
    vote: Chosen | None = None,
) -> AddedTask:
    """Learn alpha from these images and store it; accuracy is that of alpha as it is stored, on `measured`.

    Args:
        train, measured: their labels are numbers of `request.classes`.
        vote: of these images, where it was chosen already; None to choose it where masks vote.

    Raises:
        TrainingDiverged, StorageError, TaskExists: nothing is stored for this task.
        BankMismatch: the task that this one resumes from was changed meanwhile; it stays.
    """
    started = time.perf_counter()
    signature_maker = (
        loaded.signature_maker if request.parts.signature else None
    )  # after training is too late to find it damaged
    request, learned = _learn_or_vote(loaded, request, train, measured, on_step, vote)
    return store_task(loaded, request, learned, train, signature_maker, started=started)


def _learn_or_vote(
    loaded: RunningBank,
    request: TaskRequest,
    train: Images,
    measured: Images,
    on_step: Callable[[], None],
    vote: Chosen | None,
) -> tuple[TaskRequest, Learned]:
    """What is learned; where masks may vote instead, whichever promises more, on no other images than these.

    Raises:
        TrainingDiverged: naming the task.
    """
    other = request.instead
    if other is None:
        return request, _learn(loaded, request, train, measured, on_step, vote)
    learned = _learn(loaded, other, train, measured, on_step)
    assert learned.train_accuracy is not None
    vote = choose_vote(loaded, train, classes=request.classes)
    if not vote.beats(learned.train_accuracy, len(train)):
        return other, learned
    return request, _learn(loaded, replace(request, instead=None), train, measured, on_step, vote)


def _learn(
    loaded: RunningBank,
    request: TaskRequest,
    train: Images,
    measured: Images,
    on_step: Callable[[], None],
    vote: Chosen | None = None,
) -> Learned:
    """Learn the parts of a task and measure them; nothing is stored.

    Raises:
        TrainingDiverged: naming the task.
    """
    if request.parts.reads_out:
        return Learned(*_learn_head(loaded, request, train, measured, on_step))
    tensors, share, begun_from = _learn_weights(loaded, request, train, on_step, vote)
    known = request.reference.data_set.labelled
    return Learned(tensors, share(measured) if known else None, share(train) if known else None, begun_from)


def _learn_head(
    loaded: RunningBank, request: TaskRequest, train: Images, measured: Images, on_step: Callable[[], None]
) -> tuple[dict[str, Array], float, float]:
    ground, start = _ground(loaded, request), request.start
    if start is not None:
        start = _in_order(loaded.bank, start, request.classes)
    with naming(request):
        return learn_head(
            ground,
            _beginning(loaded.bank, request, start),
            train,
            measured,
            classes=request.classes.count,
            restore=lambda tensors: restore(loaded.bank, request, tensors),
            on_step=on_step,
        )


def _learn_weights(
    loaded: RunningBank,
    request: TaskRequest,
    train: Images,
    on_step: Callable[[], None],
    vote: Chosen | None = None,
) -> tuple[dict[str, Array], Callable[[Images], float], str | None]:
    """The parts of a task as they are stored, by name, what measures its accuracy as stored, and what it began from.

    Raises:
        TrainingDiverged: loss or values became NaN or infinite, or too large to be stored; naming the task.
    """
    backbone = loaded.backbone.answering(request.classes.count)
    if request.parts.vote:
        chosen = vote or choose_vote(loaded, train, classes=request.classes, labelled=not request.fit.unlabelled)
        tensors: dict[str, Array] = {VOTE.name: chosen.stored}
        begun_from: str | None = chosen.words
    else:
        beginning = replace(_beginning(loaded.bank, request, request.start), few=few_images(loaded, request, train))
        trainables = begin_parts(_ground(loaded, request), beginning)
        learning = [*trainables.values()]
        with naming(request):
            train_parts(backbone, learning, train, beginning.fit, on_step=on_step, calibration=loaded.calibration)
            tensors = {name: trainable.store() for name, trainable in trainables.items()}
        begun_from = next((one.begun_from for one in learning if one.begun_from is not None), None)
    with naming(request):
        effective = loaded.lay(restore(loaded.bank, request, tensors), settings_of(loaded.bank, request))
    answering = loaded.answering(request.classes.count)
    return tensors, lambda images: accuracy(answering, effective, images), begun_from


def _ground(loaded: RunningBank, request: TaskRequest) -> Ground:
    return loaded.ground(settings_of(loaded.bank, request), names_of(request.parts))


def _beginning(bank: Bank, request: TaskRequest, start: StoredTask | None) -> Beginning:
    fit = replace(task_training(request.fit), seed=task_seed(request.fit, request.reference))
    return Beginning(request.parts, fit, count_masks(bank, request), start)


def _in_order(bank: Bank, start: StoredTask, classes: TaskClasses) -> StoredTask:
    """A stored task with a head whose rows stand for these classes, by name; rows of classes that it lacks are 0."""
    present = stored_classes(bank, start.record.task, start.record)
    head = HEAD.of(start)
    if head is None or present.names is None or classes.names is None or present.names == classes.names:
        return start
    table = np.array(renumbered(classes.names, present.names))
    weight, bias = head.weight[table], head.bias[table]
    weight[table < 0], bias[table < 0] = 0, bias[table >= 0].mean() if (table >= 0).any() else 0
    return replace(start, values={**start.values, HEAD.name: StoredHead(weight, bias)})
