"""What workers do for a bank: train its masks, or learn tasks; and how files are taken in that came from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.folder import MANIFEST
from impress_format.bank_files.table import files_of
from impress_format.errors import FormatError, listed
from impress_format.operations import exchange
from impress_format.tasks.file import read_task_record
from impress_learn.engines.work import TorchSettings
from impress_learn.plan.asked_tasks import AskedTasks, plan_requests
from impress_learn.plan.tasks import TaskRequest
from impress_learn.progress import SILENT, Progress
from impress_learn.streams.classes import names_to_store

if TYPE_CHECKING:
    from impress_format.records.training import Elsewhere
    from impress_learn.tasks.added import AddedTask


@dataclass(frozen=True)
class MaskWork:
    """What a worker does: train one of the masks that a bank plans (engines/work.py). An item is its index."""

    path: Path
    data_dir: Path | None
    settings: TorchSettings
    recorded: Elsewhere | None = None

    def begin(self, progress: Progress) -> Callable[[int], None]:
        from impress_learn.jobs.making import train_missing_masks

        bank, device = open_bank(self.path), self.settings.apply()

        def train(index: int) -> None:
            train_missing_masks(
                bank,
                data_dir=self.data_dir,
                device=device,
                progress=Progress(step=progress.step, remark=progress.remark),
                among=[index],
                elsewhere=self.recorded,
            )

        return train

    def name(self, item: int) -> str:
        return f"mask {item}"

    def needs(self) -> Mapping[str, bytes]:
        return shared_files(open_bank(self.path))

    def gives(self, item: int) -> Sequence[str]:
        bank = open_bank(self.path)
        return [_inside(bank, bank.mask_path(item))]

    def elsewhere(self, path: Path, settings: TorchSettings, recorded: Elsewhere | None) -> MaskWork:
        return replace(self, path=path, settings=settings, recorded=recorded)


def receive_mask(bank: Bank) -> Callable[[int, Mapping[str, bytes]], None]:
    """Takes the file of a mask in, by its index: checked as one on disk is.

    Raises, called:
        FormatError: it is damaged, or not the mask that was planned.
    """

    def receive(index: int, files: Mapping[str, bytes]) -> None:
        for content in files.values():
            exchange.receive_mask(bank, index, content)

    return receive


@dataclass(frozen=True)
class TaskWork:
    """What a worker does: learn and store some of the tasks that a command asks for (engines/work.py). An item is the
    names of these.

    Attributes:
        with_tasks: whether what is learned may depend on tasks that are stored, which are sent then too.
    """

    path: Path
    asked: AskedTasks
    settings: TorchSettings
    with_tasks: bool
    recorded: Elsewhere | None = None

    def begin(self, progress: Progress) -> Callable[[tuple[str, ...]], Mapping[str, AddedTask]]:
        from impress_learn.jobs.requests import learn_with
        from impress_learn.running.loaded import load_running

        bank, device = open_bank(self.path), self.settings.apply()
        requests = [_recorded(one, self.recorded) for one in plan_requests(bank, self.asked, SILENT)]
        loaded = load_running(bank, device)
        by_name = {request.name: request for request in requests}

        def learn(names: tuple[str, ...]) -> Mapping[str, AddedTask]:
            wanted = [by_name[name] for name in names]
            return learn_with(loaded, wanted, self.asked.data_dir, progress, among=requests)

        return learn

    def name(self, item: tuple[str, ...]) -> str:
        return listed(item, 2)

    def needs(self) -> Mapping[str, bytes]:
        bank = open_bank(self.path)
        masks = [bank.mask_path(index) for index in range(len(bank.manifest.masks))]
        tasks = {}
        if self.with_tasks:
            tasks = _stored_tasks(bank)
        elif self.asked.warm_start is not None:
            name = bank.find_task(self.asked.warm_start)
            tasks = {_inside(bank, bank.task_path(name)): bank.task_bytes(name)}  # loose there, also where it is packed
        return {**shared_files(bank), **{_inside(bank, path): path.read_bytes() for path in masks}, **tasks}

    def gives(self, item: tuple[str, ...]) -> Sequence[str]:
        bank = open_bank(self.path)
        return [_inside(bank, bank.task_path(name)) for name in item]

    def elsewhere(self, path: Path, settings: TorchSettings, recorded: Elsewhere | None) -> TaskWork:
        return replace(self, path=path, settings=settings, recorded=recorded)


def receive_tasks(
    bank: Bank, requests: Sequence[TaskRequest]
) -> Callable[[tuple[str, ...], Mapping[str, bytes]], None]:
    """Takes the files of tasks in, by their names: all are checked as those on disk are before the first is stored.

    Raises, called:
        FormatError: one is damaged, or another task than was asked for.
        TaskExists: another process stored one of this name meanwhile.
    """
    by_path = {_inside(bank, bank.task_path(request.name)): request for request in requests}

    def receive(_: tuple[str, ...], files: Mapping[str, bytes]) -> None:
        for path, content in files.items():
            _check_asked_for(bank, by_path[path], content)
        for path, content in files.items():
            exchange.receive_task(bank, by_path[path].name, content)

    return receive


def _check_asked_for(bank: Bank, asked: TaskRequest, content: bytes) -> None:
    """Raises FormatError for the file of a task of other data, learned otherwise, or of classes that differ."""
    path = bank.task_path(asked.name)
    record = read_task_record(path, content, bank.manifest)
    fit = None if record.fit is None else msgspec.structs.replace(record.fit, steps=0, elsewhere=None)
    if record.task != str(asked.reference) or fit not in [one.fit for one in asked.choices()]:
        raise FormatError(path, "is another task than was asked for")
    if record.class_names != names_to_store(bank, asked.reference, asked.classes):
        raise FormatError(path, "has other classes than the data have here")


def _recorded(request: TaskRequest, elsewhere: Elsewhere | None) -> TaskRequest:
    """The request of a task whose file says where it was learned."""
    if elsewhere is None:
        return request
    instead = None if request.instead is None else _recorded(request.instead, elsewhere)
    return replace(request, fit=msgspec.structs.replace(request.fit, elsewhere=elsewhere), instead=instead)


def shared_files(bank: Bank) -> dict[str, bytes]:
    """The manifest of a bank and the files that it keeps once, as they are sent to whoever trains for it."""
    kept = (bank.path / one.name for one in files_of(bank.files))
    paths = [bank.path / MANIFEST, *(path for path in kept if path.exists())]
    return {_inside(bank, path): path.read_bytes() for path in paths}


def _stored_tasks(bank: Bank) -> dict[str, bytes]:
    """All files that tasks are in, read anew where another process packed or removed one meanwhile."""
    while True:
        with suppress(FileNotFoundError):
            return {_inside(bank, path): path.read_bytes() for path in bank.tasks.files()}


def _inside(bank: Bank, path: Path) -> str:
    return path.relative_to(bank.path).as_posix()
