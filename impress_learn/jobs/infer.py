"""Task and class of a person's own images: the whole job of `impress infer`, one call.

from impress_learn.jobs.infer import infer
for answer in infer("digits.impress", ["seven.png"]).answers:
    print(answer.path, answer.task, answer.label, answer.probability)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import open_bank
from impress_format.errors import UsageError
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device, choose_device
from impress_learn.streams.view import view_of

if TYPE_CHECKING:
    from impress_format.bank import Bank
    from impress_learn.face.answering import Answering
    from impress_learn.identify.found import Found
    from impress_learn.identify.methods import MethodName
    from impress_learn.streams.read_image import Pixels
    from impress_learn.streams.read_parts import PartReader


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
    mirror: bool | None = None,
    stdin: Callable[[], bytes] | None = None,
    device: Device = None,
    progress: Progress = SILENT,
) -> Answers:
    """Classes of images, of a task that is given or inferred among all tasks of the bank.

    Args:
        path: the bank's folder.
        images: files, folders (their images, also those further down), or `-` for one image read by `stdin`.
        task: name or reference of a stored task that the images are of; None to infer it, or where the bank has one
            task alone, to answer under that and to remark on it.
        one_task: the images share one task, which is inferred from all of them.
        method: how tasks are told apart (docs/method.md, Which task); `auto` for signatures where all tasks have one.
        mirror: whether each image's mirror image is asked for too, and the mean answers, in twice the time; None for as
            the bank says (`preprocess.mirror`), by which its accuracy was measured.
        stdin: reads the image `-`; None where there is none.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.
        progress: is told how it goes.

    Returns:
        Answers for the images that could be read, in order, and what is wrong with the others.

    Raises:
        UsageError: no images, an unknown task, or `one_task` beside `task`.
        BankMismatch: a bank that does not say what an image is to be like, or has fewer than two tasks to infer among
            and not one that is stored alone.
        DataError: a folder without images.
        FormatError, BackboneMismatch, OutOfMemory.

    Examples:
        >>> from impress_learn import infer
        >>> infer("build/demo.impress", ["seven.png"], task="rotated-digits-15").answers[0].label
        '7'
    """
    begun = begin_inference(
        path,
        images,
        task=task,
        one_task=one_task,
        method=method,
        mirror=mirror,
        stdin=stdin,
        device=device,
        progress=progress,
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
    mirror: bool | None = None,
    stdin: Callable[[], bytes] | None = None,
    device: Device = None,
    progress: Progress = SILENT,
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
    preprocess = view_of(bank)
    name = None if task is None else bank.find_task(task)
    bank.complete_masks()

    from impress_learn.face.prediction import one_task_remark
    from impress_learn.identify.found import find_candidates, only_task
    from impress_learn.streams.find_images import find_images, tell_notices
    from impress_learn.streams.read_parts import STANDARD_INPUT, PartReader

    sources: list[str | Path] = []
    for image in images:
        sources += [STANDARD_INPUT] if image == STANDARD_INPUT else find_images([Path(image)])
    remarks = []
    if name is None and (name := only_task(bank)) is not None:
        remarks.append(one_task_remark(bank, name))
    answering = _answering(bank, find_candidates(bank) if name is None else None, method, mirror, device)
    reader = PartReader(preprocess, sources, again=one_task, stdin=stdin, on_image=progress.step)

    def parts() -> Iterator[Answers]:
        common = answering.find_common_task(_pixels(reader)) if name is None and one_task else None
        for pixels, read, unreadable in reader.parts():
            answers: tuple[Answer, ...] = ()
            if pixels is not None:
                if name is not None:
                    found = answering.classify_as(pixels, name)
                else:
                    tasks = answering.find_tasks(pixels) if common is None else [common] * len(read)
                    found = answering.classify_among(pixels, tasks)
                answers = tuple(
                    Answer(
                        path=path,
                        task=one.task,
                        nearest=one.nearest,
                        task_probability=one.task_probability,
                        label=one.label,
                        probability=one.probability,
                    )
                    for path, one in zip(read, found, strict=True)
                )
            yield Answers(answers=answers, unreadable=tuple(unreadable))
        remarks.extend(tell_notices(reader.noticed, bank.path, preprocess))
        if remarks:
            for remark in remarks:
                progress.remark(remark)
            yield Answers(answers=(), unreadable=(), remarks=tuple(remarks))

    progress.begin(reader.steps)
    return Inference(images=len(sources), parts=parts())


def _answering(bank: Bank, found: Found | None, method: MethodName, mirror: bool | None, device: Device) -> Answering:
    """What answers: NumPy where it can and no other device is asked for, as torch takes longer to start than that."""
    if not mirror and device in (None, "cpu", "auto"):
        from impress_learn.face.in_numpy import answering_in_numpy

        if (in_numpy := answering_in_numpy(bank, found, method)) is not None:
            return in_numpy
    from impress_learn.face.predict import WithTorch
    from impress_learn.identify.candidates import Candidates
    from impress_learn.running.loaded import load_running

    loaded = replace(load_running(bank, choose_device(device)), mirror=mirror)
    return WithTorch(loaded, None if found is None else Candidates(loaded, found), method)


def _pixels(reader: PartReader) -> Iterator[Pixels]:
    return (pixels for pixels, _, _ in reader.parts() if pixels is not None)
