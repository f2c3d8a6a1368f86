"""Learn from a stream in which nobody names the tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.tasks.file import check_task_name
from impress_learn.identify.discovery import Discovery
from impress_learn.parts.head import usual_head
from impress_learn.parts.table import Parts, for_classes, settle
from impress_learn.plan.tasks import TaskRequest, check_fits_bank, check_training_is_kept
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, in_threads
from impress_learn.running.same_bits import choose_learning_device, open_to_learn
from impress_learn.streams.held_out import check_same_split
from impress_learn.streams.reference import Reference, parse_reference, parse_references
from impress_learn.training.config import TaskTraining, check_number, check_training, require

if TYPE_CHECKING:
    from impress_format.bank import Bank


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """One task that chunks of a stream were taken for.

    Attributes:
        task: the reference that most of its chunks were of.
        name: that of the bank's task, or of the mask whose task it is.
        new: whether it was opened by the stream, learned and stored.
        taken: the references of its chunks, and how many of each; no decision looked at them.
        accuracy: on the test images of `task`; None where it has none of a class that the known task has.
    """

    task: str
    name: str
    new: bool
    taken: dict[str, int]
    accuracy: float | None


def discover_tasks(
    path: Path | str,
    references: Sequence[str],
    *,
    discovery: Discovery = Discovery(),  # noqa: B008  frozen
    fit: TaskTraining = TaskTraining(),  # noqa: B008  frozen
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> list[Discovered]:
    """Learn from a stream of labelled images whose tasks nobody names (SupSup's NNs); tasks that are new are stored.

    Args:
        path: the bank's folder.
        references: where the images come from, in this order; one may return.
        discovery: how the stream is read, and when a task in it is new.
        fit: how new tasks are learned.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        The tasks that chunks were taken for, those of the bank and new ones.

    Raises:
        UsageError: settings out of range.
        BankMismatch: the bank has fewer than two tasks, or `rule` signature and a task that has none.
        DataError, FormatError, TrainingDiverged, StorageError, OutOfMemory: new tasks stored before stay.

    Examples:
        >>> from impress_learn import discover_tasks
        >>> stream = ["rotated-digits/0", "rotated-digits/180", "rotated-digits/0"]
        >>> [(one.name, one.new) for one in discover_tasks("build/demo.impress", stream)]
        [...('discovered-1', True)...]
    """
    check_training(fit)
    require(fit.holdout == 0 and fit.shots is None, "a stream has no `holdout` and no `shots`")
    bank = open_to_learn(path, progress)
    _check(discovery, bank, fit)
    chunk, images = discovery.chunk, discovery.images
    parsed = [one for text in references for one in parse_references([text])]  # each may return
    for one in parsed:
        require(one.data_set.labelled, f"{one} has no labels, which tasks that are new are learned by")
    if not usual_head(bank):
        check_fits_bank(parsed, bank.backbone)
    for one in parsed:
        check_same_split(bank, str(one))
    for reference, times in Counter(parsed).items():
        share = reference.data_set.train_images // times
        require(share >= chunk, f"`chunk` {chunk}: {reference} has only {share:,} images for each time it is named")
    bank.complete_masks()

    from impress_learn.identify.candidates import Candidates
    from impress_learn.identify.discover import chunks_of, count_chunks, discover
    from impress_learn.identify.found import find_candidates
    from impress_learn.running.accuracy import accuracy
    from impress_learn.running.loaded import load_running
    from impress_learn.streams.classes import classes_of_data, share_classes
    from impress_learn.streams.load import check_data
    from impress_learn.tasks.learn import learn_task

    view = bank.manifest.preprocess
    check_data(parsed, data_dir=data_dir, view=view, progress=progress)
    candidates = Candidates(load_running(bank, choose_learning_device(bank, device, progress)), find_candidates(bank))
    loaded = candidates.loaded
    progress.begin(count_chunks(parsed, size=chunk, images=images))
    stream = chunks_of(
        parsed, size=chunk, images=images, seed=fit.seed, data_dir=data_dir, view=view, device=loaded.basis.device
    )
    opened = discover(candidates, stream, rule=discovery.rule, fit=fit, on_chunk=progress.step)
    names = _free_names(bank, discovery.prefix)
    results = []
    for group in opened:
        ((task, _),) = group.taken.most_common(1)
        reference = parse_reference(task)
        if group.place is None:
            classes = classes_of_data(reference, data_dir)
            test = loaded.task_data(reference, data_dir=data_dir).test
            train = group.images(classes)
            request = TaskRequest(
                name=next(names),
                reference=reference,
                classes=classes,
                fit=fit.record(len(train)),
                parts=_usual_parts(bank, reference),
            )
            progress.describe(f"learning {request.name} from {len(train):,} images")
            with in_threads(fit.threads):
                learned = learn_task(loaded, request, train, test, on_step=lambda: None)
            name, measured = learned.name, learned.accuracy
        else:
            name, classes = candidates.tasks[group.place].name, candidates.classes(group.place)
            measured = None
            if share_classes(classes, classes_of_data(reference, data_dir)):
                test = loaded.stored_data(reference, name, classes, data_dir=data_dir, remark=progress.remark).test
                known = loaded.answering(classes.count)
                measured = accuracy(known, candidates.weights(group.place), test) if len(test) else None
        results.append(
            Discovered(task=task, name=name, new=group.place is None, taken=dict(group.taken), accuracy=measured)
        )
    return results


def _check(discovery: Discovery, bank: Bank, fit: TaskTraining) -> None:
    """Raises UsageError for what cannot be meant, or kept by the bank."""
    check_number("chunk", discovery.chunk, least=2)
    check_training_is_kept(bank, fit.record(discovery.chunk))
    check_number("images", discovery.images, least=1)
    require(
        discovery.images is None or discovery.images >= discovery.chunk,
        f"`images` {discovery.images}: expected at least one chunk of {discovery.chunk}",
    )
    check_task_name(f"{discovery.prefix}-1")


def share_right(found: Sequence[Discovered]) -> float:
    """Share of chunks that were taken for the task that is theirs: the one that most chunks of their reference were
    taken for, if most of its chunks are of that reference.
    """
    main = {task: max(found, key=lambda one: one.taken.get(task, 0)) for one in found for task in one.taken}
    right = sum(one.taken[task] for task, one in main.items() if one.task == task)
    return right / sum(sum(one.taken.values()) for one in found)


def _usual_parts(bank: Bank, reference: Reference) -> Parts:
    """Those that `task add` gives a task unless asked otherwise."""
    return for_classes(settle(bank, Parts()), reference.data_set.classes)


def _free_names(bank: Bank, prefix: str) -> Iterator[str]:
    """PREFIX-N for the numbers that no task has."""
    return (name for number in count(1) if not bank.tasks.has(name := f"{prefix}-{number}"))
