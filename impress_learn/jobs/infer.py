"""Task and class of a person's own images: the whole job of `impress infer`, one call.

from impress_learn.jobs.infer import infer
for answer in infer("digits.impress", ["seven.png"]).answers:
    print(answer.path, answer.task, answer.label, answer.probability)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import Bank, open_bank
from impress_format.errors import UsageError
from impress_format.versions import require_version
from impress_learn.classes import stored_classes
from impress_learn.jobs.device import choose_device
from impress_learn.watch import SILENT, Watch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from impress_format.task_record import TaskRecord
    from impress_learn.identify.candidates import Candidates
    from impress_learn.identify.methods import MethodName
    from impress_learn.loaded import LoadedBank
    from impress_learn.picture_parts import PartReader
    from impress_learn.recognition.signature import Recognised

_AT_ONCE = 256
"""Images that are inferred together."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one image shows.

    Attributes:
        path: the file, or `-` for standard input.
        task: the reference of the task, given or inferred; None if the image is of none of the bank's tasks.
        nearest: the task of the bank that it is likeliest to be of, whose label this is.
        task_probability: how likely that is the right one, if it is one of the bank's; None where the task was given,
            or inferred by a method that does not say.
        label: one of the task's classes, by the name that is stored, or its number where none is.
        probability: softmax of the class's logit under the task.
    """

    path: str
    task: str | None
    nearest: str
    task_probability: float | None
    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers for the images that could be read, in order, and what is wrong with the others.

    `remarks` is what may make answers wrong: images that the bank squeezes, or whose scale it does not know.
    """

    answers: tuple[Answer, ...]
    unreadable: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Answers that are still to be made.

    Attributes:
        images: how many there are to be read.
        parts: answers for some images at a time, in order; what is asked for next is decoded then, and no more is held.
    """

    images: int
    parts: Iterator[Answers]


def infer(
    path: Path | str,
    images: Sequence[Path | str],
    *,
    task: str | None = None,
    one_task: bool = False,
    method: MethodName = "auto",
    stdin: Callable[[], bytes] | None = None,
    device: Callable[[], torch.device] | None = None,
    watch: Watch = SILENT,
) -> Answers:
    """Classes of images, of a task that is given or inferred among all tasks of the bank.

    Args:
        images: files, folders (their images, also those further down), or `-` for one image read by `stdin`.
        task: name or reference of a stored task that the images are of; None to infer it, or where the bank has one
            task alone, to answer under that and to remark on it.
        one_task: the images share one task, which is inferred from all of them.
        method: of inferring.

    Raises:
        UsageError: no images, an unknown task, or `one_task` beside `task`.
        BankMismatch: a bank that does not say what an image is to be like, or has fewer than two tasks to infer among
            and not one that is stored alone.
        DataError: a folder without images.
        FormatError, BackboneMismatch, OutOfMemory.
    """
    begun = begin_inference(
        path, images, task=task, one_task=one_task, method=method, stdin=stdin, device=device, watch=watch
    )
    parts = list(begun.parts)
    return Answers(
        answers=tuple(answer for part in parts for answer in part.answers),
        unreadable=tuple(message for part in parts for message in part.unreadable),
        remarks=tuple(remark for part in parts for remark in part.remarks),
    )


def begin_inference(
    path: Path | str,
    images: Sequence[Path | str],
    *,
    task: str | None = None,
    one_task: bool = False,
    method: MethodName = "auto",
    stdin: Callable[[], bytes] | None = None,
    device: Callable[[], torch.device] | None = None,
    watch: Watch = SILENT,
) -> Inference:
    """As `infer`, for any number of images: the answers come part by part, and memory does not grow with them.

    With `one_task` the images are decoded twice, where they are more than a part: once to find the task, and once to
    answer.

    Args:
        As infer.

    Raises:
        As infer: what does not fit is found now. The parts raise BankMismatch where `method` does not fit the bank's
        tasks, FormatError, and OutOfMemory.
    """
    if not images:
        raise UsageError("no image is named")
    if task is not None and one_task:
        raise UsageError("`task` says which one it is: leave out `one_task`")
    bank = open_bank(path)
    require_version(bank.path, bank.manifest.format_version, "which does not say what its images are like")
    preprocess = bank.manifest.preprocess
    assert preprocess is not None
    name = None if task is None else bank.find_task(task)
    bank.complete_masks()

    from impress_learn.identify.candidates import Candidates, find_candidates, only_task
    from impress_learn.loaded import load_bank
    from impress_learn.picture_parts import STANDARD_INPUT, PartReader
    from impress_learn.pictures import find_pictures, tell_notices

    sources: list[str | Path] = []
    for image in images:
        sources += [STANDARD_INPUT] if image == STANDARD_INPUT else find_pictures([Path(image)])
    remarks = []
    if name is None and (name := only_task(bank)) is not None:
        remarks.append(f"{bank.path} has one task, {name}: every image is answered as one of it, whatever it shows")
    found = find_candidates(bank) if name is None else None
    loaded = load_bank(bank, choose_device(device))
    candidates = None if found is None else Candidates(loaded, found)
    reader = PartReader(preprocess, sources, again=one_task, stdin=stdin, on_image=watch.step)

    def parts() -> Iterator[Answers]:
        common = _common_task(candidates, method, reader) if candidates and one_task else None
        for pixels, read, unreadable in reader.parts():
            answers: list[Answer] = []
            if pixels is not None:
                if candidates is None or common is not None:
                    tasks = [common or _GIVEN] * len(read)
                else:
                    tasks = _tasks(candidates, pixels, method)
                answers = _answer(bank, loaded, candidates, name, pixels, tasks, read)
            yield Answers(answers=tuple(answers), unreadable=tuple(unreadable))
        remarks.extend(tell_notices(reader.noticed, bank.path, preprocess))
        if remarks:
            for remark in remarks:
                watch.remark(remark)
            yield Answers(answers=(), unreadable=(), remarks=tuple(remarks))

    watch.begin(reader.steps)
    return Inference(images=len(sources), parts=parts())


@dataclass(frozen=True)
class _Task:
    """The candidate that an image is likeliest to be of, whether it is of none, and how likely that candidate is."""

    index: int
    unknown: bool
    probability: float | None


_GIVEN = _Task(0, False, None)


def _common_task(candidates: Candidates, method: MethodName, reader: PartReader) -> _Task | None:
    """What all of the images are likely to be of; None if none can be read."""
    from impress_learn.identify.methods import infer_one_group

    parts = (part for pixels, _, _ in reader.parts() if pixels is not None for part in pixels.split(_AT_ONCE))
    first = next(parts, None)
    if first is None:
        return None
    normalised = (_normalised(candidates.loaded, part) for part in chain([first], parts))
    return _read_tasks(infer_one_group(candidates, method, normalised))[0]


def _tasks(candidates: Candidates, pixels: Tensor, method: MethodName) -> list[_Task]:
    """What each image is likely to be of."""
    from impress_learn.identify.methods import infer_groups

    found: list[_Task] = []
    for part in pixels.split(_AT_ONCE):
        found += _read_tasks(infer_groups(candidates, method, _normalised(candidates.loaded, part)[:, None]))
    return found


def _read_tasks(inferred: Recognised) -> list[_Task]:
    """Of each group."""
    shares = inferred.probability
    found, unknown = inferred.scores.argmax(1).tolist(), inferred.unknown.tolist()
    return list(map(_Task, found, unknown, [None] * len(found) if shares is None else shares.tolist()))


def _answer(
    bank: Bank,
    loaded: LoadedBank,
    candidates: Candidates | None,
    name: str | None,
    pixels: Tensor,
    tasks: Sequence[_Task],
    paths: Sequence[str],
) -> list[Answer]:
    """Classes of the images, each under the weights of its task."""
    answers: dict[int, Answer] = {}
    for index in sorted({of.index for of in tasks}):
        record: TaskRecord | None
        if candidates is None:
            assert name is not None
            weights, record = loaded.task_weights(name), bank.read_task_record(name)
            task = record.task
        else:
            candidate = candidates.tasks[index]
            weights, task = candidates.weights(index), candidate.task
            record = None if candidate.mask is not None else bank.read_task_record(candidate.name)
        classes = stored_classes(bank, task, record)
        rows = [row for row, of in enumerate(tasks) if of.index == index]
        for start in range(0, len(rows), _AT_ONCE):
            chosen = rows[start : start + _AT_ONCE]
            logits = loaded.logits(weights, _normalised(loaded, pixels[chosen]), classes.count)
            shares, labels = logits.softmax(1).max(1)
            for row, share, label in zip(chosen, shares.tolist(), labels.tolist(), strict=True):
                answers[row] = Answer(
                    path=paths[row],
                    task=None if tasks[row].unknown else task,
                    nearest=task,
                    task_probability=tasks[row].probability,
                    label=classes.label(label),
                    probability=share,
                )
    return [answers[row] for row in range(len(paths))]


def _normalised(loaded: LoadedBank, pixels: Tensor) -> Tensor:
    from impress_learn.streams.images import normalise

    preprocess = loaded.bank.manifest.preprocess
    assert preprocess is not None
    return normalise(pixels.to(loaded.basis.device), preprocess.mean, preprocess.std)
