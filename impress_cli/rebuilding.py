"""The commands that make a bank again, from what it records of its masks, its projection and its tasks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import msgspec

from impress_format.bank import Bank
from impress_format.bank_files.projection import ProjectionRecord
from impress_format.parts.table import count_classes
from impress_format.parts.vote import VOTE
from impress_format.records.masks import MaskPlan
from impress_format.records.training import MaskTrainingRecord, TaskTrainingRecord
from impress_format.tasks.file import StoredTask
from impress_format.tasks.record import TaskRecord
from impress_learn.parts.asked_for import asked_for
from impress_learn.parts.table import parts_of
from impress_learn.plan.few import FEW
from impress_learn.streams.classes import fixed_data_set
from impress_learn.streams.held_out import count_training

_IN_MEMORY = "dataset:"
"""What the reference of a task begins with whose images were a Dataset in memory: no command can read them."""


def rebuilding_commands(bank: Bank, tasks: Sequence[TaskRecord], name: str) -> list[str]:
    """A line for each command; of a bank that will be called NAME.impress."""
    return [*_create_lines(bank, name), *_task_lines(bank, tasks, name)]


def _create_lines(bank: Bank, name: str) -> list[str]:
    """`bank create` for the first masks of equal settings, `bank extend` for each later group."""
    spec = bank.backbone
    groups: list[list[MaskPlan]] = []
    for plan in bank.manifest.masks:
        if groups and (plan.fit is None or _settings(plan) == _settings(groups[-1][0])):
            groups[-1].append(plan)
        else:
            groups.append([plan])
    made_of = bank.projection_record if bank.has_projection else None
    if made_of and not _made_together(groups, made_of):
        groups.insert(0, [])  # no mask, and yet a network and what heads stand on
    lines = []
    for number, plans in enumerate(groups):
        references = list(dict.fromkeys(plan.task for plan in plans if plan.task))
        if number == 0 and made_of:
            references = list(made_of.tasks)
        words = ["impress", "bank", "extend" if number else "create", f"{name}.impress", *references]
        words += [] if number else _backbone_words(bank)
        words += _mask_words(plans, len(references), "sgd" if spec.arch == "lenet-300-100" else "adam")
        holdout = plans[0].fit.holdout if plans and plans[0].fit else made_of.holdout if made_of else 0.0
        words += ["--holdout", f"{holdout:g}"] if holdout else []
        lines.append(shlex.join([*words, "--seed", str(spec.seed)]))
    return lines


def _made_together(groups: Sequence[Sequence[MaskPlan]], made_of: ProjectionRecord) -> bool:
    """Whether one command made the first masks and the projection: of the same tasks, with the same images held out."""
    first = groups[0] if groups else ()
    tasks = tuple(dict.fromkeys(plan.task for plan in first if plan.task))
    return (
        bool(first)
        and tasks in ((), made_of.tasks)
        and all(plan.fit is None or plan.fit.holdout == made_of.holdout for plan in first)
    )


def _mask_words(plans: Sequence[MaskPlan], references: int, usual_optimizer: str) -> list[str]:
    """How masks of equal settings are made of so many tasks."""
    random = sum(plan.task is None for plan in plans)
    repeats = (len(plans) - random) // max(references, 1)
    words = ["--density", f"{plans[0].density:g}"] if plans else []
    words += ["--mask-type", plans[0].type] if plans and plans[0].type != "binary" else []
    words += ["--allocation", plans[0].allocation] if plans and plans[0].allocation != "uniform" else []
    words += ["--masks-per-task", str(repeats)] if repeats != 1 else []
    words += ["--random-masks", str(random)] if random else []
    if plans and (fit := plans[0].fit):
        words += _training_words(fit, usual_optimizer)
    return words


def _backbone_words(bank: Bank) -> list[str]:
    """What network a bank stands on, and what images it takes."""
    spec = bank.backbone
    words = ["--backbone", spec.arch, "--init", spec.init, *_image_words(bank)]
    if spec.pretrained:
        words += ["--weights", spec.pretrained.address.removeprefix("file:")]
    if bank.has_projection and (epochs := bank.projection_record.epochs):
        words += ["--adapt", str(epochs)]
    if bank.manifest.instructions is not None:
        words.append("--reproducible")
    return words


def _image_words(bank: Bank) -> list[str]:
    """How images are made, but where they are as MNIST's are by nature."""
    view = bank.manifest.preprocess
    if view is None or (view.mode, view.size, view.crop) == ("L", (28, 28), None):
        return []
    mirrored = ["--mirror"] if view.mirror else []
    return ["--image-size", str(view.size[0]), "--image-mode", view.mode, *mirrored]


def _settings(plan: MaskPlan) -> tuple[object, ...]:
    fit = plan.fit and msgspec.structs.replace(plan.fit, seed=0)
    return plan.kind, plan.type, plan.density, plan.allocation, fit


def _training_words(fit: MaskTrainingRecord | TaskTrainingRecord, usual_optimizer: str) -> list[str]:
    words = ["--epochs", str(fit.epochs), "--batch-size", str(fit.batch_size), "--lr", f"{fit.lr:g}"]
    words += ["--optimizer", fit.optimizer] if fit.optimizer != usual_optimizer else []
    words += ["--weight-decay", f"{fit.weight_decay:g}"] if fit.weight_decay else []
    words += ["--warmup", str(fit.warmup)] if fit.warmup else []
    return words


def _task_lines(bank: Bank, tasks: Sequence[TaskRecord], name: str) -> list[str]:
    """One `task add` for the tasks of equal settings; one for each that has a name of its own.

    How a task was learned first is lost when it is updated, and no command learns from a Dataset in memory; a comment
    says so.
    """
    by_digest = {task.digest: task for task in tasks}
    names = {task.digest: task.name for task in tasks if _is_made(task, by_digest)}
    told = [_why_not(task, by_digest) for task in tasks if task.digest not in names]
    groups: dict[tuple[str, ...], list[str]] = {}
    # What others begin from comes first.
    for task in sorted(tasks, key=lambda task: task.fit is not None and task.fit.start is not None):
        fit = task.fit
        if fit is None or task.digest not in names:
            continue
        words = _training_words(fit, "adam")
        words += ["--l1", f"{fit.l1:g}"] if fit.l1 else []
        stored = bank.read_stored(task.name)
        words += _part_words(bank, stored)
        words += ["--warm-start", names[fit.start]] if fit.start else []
        words += ["--shots", str(fit.shots)] if fit.shots is not None else []
        words += ["--unlabelled"] if fit.unlabelled else []
        words += ["--no-vote"] if VOTE.of(stored) is None and _may_be_few(task) else []  # else it is chosen again
        words += ["--holdout", f"{fit.holdout:g}"] if fit.holdout else []
        words += ["--seed", str(fit.seed)] if fit.seed else []
        words += ["--name", task.name] if task.name != task.task.replace("/", "-") else []
        groups.setdefault(tuple(words), []).append(task.task)
    added = [
        shlex.join(["impress", "task", "add", f"{name}.impress", *references, *words])
        for words, references in groups.items()
    ]
    return added + told


def _may_be_few(task: TaskRecord) -> bool:
    """Whether a task may have been learned from so few images that masks could vote instead."""
    data = fixed_data_set(task.task)
    return data is None or task.fit is None or count_training(data, task.holdout, task.fit.shots) < FEW


def _is_made(task: TaskRecord, by_digest: Mapping[str, TaskRecord]) -> bool:
    """Whether commands make a task again: it and those that it begins from, which the bank has, are of data that
    commands find.
    """
    if task.fit is None or task.task.startswith(_IN_MEMORY):
        return False
    start = task.fit.start
    return start is None or (start in by_digest and _is_made(by_digest[start], by_digest))


def _why_not(task: TaskRecord, by_digest: Mapping[str, TaskRecord]) -> str:
    if task.fit is None:
        return f"# {task.name} came as a packet (task import), which does not say how it was learned"
    if task.task.startswith(_IN_MEMORY):
        return f"# {task.name} was learned from a torch Dataset in Python (add_dataset), whose images are not stored"
    if task.fit.start is not None and task.fit.start in by_digest:
        return f"# {task.name} begins from {by_digest[task.fit.start].name}, which no command here makes"
    return f"# {task.name} went on from an earlier alpha (task update)"


def _part_words(bank: Bank, stored: StoredTask) -> list[str]:
    """What of its parts a command must ask for."""
    words: list[str] = []
    classes = count_classes(bank.manifest, stored.record.settings)
    for name, value in asked_for(bank, parts_of(stored), classes).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words
