"""Reading a bank while tasks are packed, replaced and removed beside it: an answer is that of before or of after.

Most tests here do the other's work between two looks of a reader at the disk, at each of them in turn, so that nothing
depends on when a thread runs.
"""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import small_bank
from test_packs import add

from impress_format import Bank, open_bank, verify_bank
from impress_format.disk.locks import exclusive
from impress_format.errors import StorageError, TaskExists, TaskNotFound
from impress_format.operations import verify
from impress_format.operations.pack import pack_tasks
from impress_format.operations.stats import measure_storage
from impress_format.operations.task_groups import task_groups
from impress_format.parts.table import stored_parts
from impress_format.tasks import sizes as task_sizes
from impress_format.tasks import store as task_store
from impress_format.zoo import entry as zoo_files

LOOKS = {
    task_store: ("list_folder", "is_there", "read_limited", "open_pack"),
    task_sizes: ("file_size",),
    verify: ("list_folder", "is_there", "read_limited", "open_pack"),
    zoo_files: ("look_at", "regular_size", "file_sha256"),
}
"""By these a reader looks at the disk."""


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Of six tasks: three in a pack, one of them replaced since, one removed, two that are loose only."""
    bank = small_bank.make(tmp_path / "a.impress")
    for key in (3, 4):
        add(bank, f"rotated-digits-{key}", f"rotated-digits/{key}")
    pack_tasks(bank)
    record, alpha = bank.read_task("one")
    bank.write_task(record, stored_parts(alpha=2 * alpha), replace=True)
    bank.remove_task("two")
    add(bank, "late", "rotated-digits/5")
    add(bank, "later", "rotated-digits/6")
    return bank


def replace_and_pack(bank: Bank) -> None:
    record, alpha = bank.read_task("rotated-digits-3")
    bank.write_task(record, stored_parts(alpha=3 * alpha), replace=True)
    pack_tasks(bank)


def remove_and_pack(bank: Bank) -> None:
    bank.remove_task("late")
    pack_tasks(bank)


def remove_and_add_anew(bank: Bank) -> None:
    record, alpha = bank.read_task("rotated-digits-3")
    bank.remove_task("rotated-digits-3")
    bank.write_task(record, stored_parts(alpha=4 * alpha))


def pack_twice(bank: Bank) -> None:
    """One more task, and the packs there were before are there again under their names."""
    pack_tasks(bank)
    add(bank, "short-lived", "rotated-digits/7")
    pack_tasks(bank)
    bank.remove_task("short-lived")
    pack_tasks(bank)


CHANGES: tuple[Callable[[Bank], object], ...] = (
    pack_tasks, replace_and_pack, remove_and_pack, remove_and_add_anew, pack_twice,
)  # fmt: skip


def contents(bank: Bank) -> dict[str, bytes]:
    found = {name: bank.tasks.read(name) for name in bank.task_names()}
    return {name: file[1] for name, file in found.items() if file is not None}


def groups(bank: Bank) -> list[tuple[str, bytes]]:
    return sorted(
        (summary.name, group.alpha([row])[0].tobytes())  # type: ignore[arg-type]
        for group in task_groups(bank)
        for row, summary in enumerate(group.summaries)
    )


def summaries(bank: Bank) -> list[tuple[str, float | None]]:
    """Without the bytes: those of one task are others in a pack, which is no change of the task."""
    return [(one.name, one.accuracy) for one in bank.summarise_tasks()]


def record_bytes(bank: Bank) -> int:
    """What tasks take beside their parts: of bytes and parts of two moments the difference might be anything."""
    storage = measure_storage(bank)
    assert sum(storage.task_parts.values()) == storage.bytes.tasks
    return storage.task_parts["record"]


def zoo_entry(bank: Bank) -> str:
    entry = zoo_files.make_entry(bank.path, "name", title="Title", description="", tags=())
    return f"{entry.tasks} {entry.digest}"


ASKS: tuple[Callable[[Bank], object], ...] = (
    Bank.task_names, summaries, groups, record_bytes, zoo_entry,
    lambda bank: bank.find_task("rotated-digits/3"),
    lambda bank: bank.task_bytes("rotated-digits-3"),
    lambda bank: bank.task_bytes("one"),
    lambda bank: bank.task_bytes("later"),
    lambda bank: verify_bank(bank.path).problems,
)  # fmt: skip
NAMES = ["names", "outlines", "groups", "stats", "zoo", "find", "packed", "replaced", "loose", "verify"]


class Disturbed:
    """Does `change` just before look number `at` at the disk, once."""

    def __init__(self, at: int, change: Callable[[], object]) -> None:
        self.at, self.change, self.looks = at, change, 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module, names in LOOKS.items():
            for name in names:
                patch.setattr(module, name, self._before(getattr(module, name)))

    def _before(self, look: Callable[..., object]) -> Callable[..., object]:
        def disturbed(*arguments: object) -> object:
            self.looks += 1
            if self.looks == self.at:
                self.change()
            return look(*arguments)

        return disturbed


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("ask", ASKS, ids=NAMES)
def test_an_answer_is_that_of_before_or_of_after(
    ask: Callable[[Bank], object], change: Callable[[Bank], object], bank: Bank, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    bank.path.rename(start)

    def fresh(name: str) -> Bank:
        """The bank opened as a server has it: the packs were read already."""
        shutil.copytree(start, tmp_path / name)
        (tmp_path / name).rename(bank.path)
        opened = open_bank(bank.path)
        opened.task_names()
        return opened

    def done(name: str) -> None:
        bank.path.rename(tmp_path / f"{name}-done")

    before, after = ask(fresh("before")), (change(open_bank(bank.path)), ask(open_bank(bank.path)))[1]
    done("before")
    for at in itertools.count(1):
        reader, name = fresh(f"at-{at}"), f"at-{at}"

        def others(reader: Bank = reader) -> None:
            change(open_bank(bank.path))
            reader.task_names()  # another thread of the reader's own process

        disturbed = Disturbed(at, others)
        with pytest.MonkeyPatch.context() as patch:
            disturbed.install(patch)
            answer = ask(reader)
        done(name)
        if disturbed.looks < at:
            assert at > 1
            break
        assert answer in (before, after), at


def test_what_was_listed_can_be_read_after_it_was_packed(bank: Bank) -> None:
    reader = open_bank(bank.path)
    for name in reader.task_names():
        replace_and_pack(open_bank(bank.path))
        assert reader.read_task(name)[0].name == name


def test_a_snapshot_stays_as_it_was(bank: Bank) -> None:
    there = bank.tasks.snapshot()
    before = (there.names(), [pack.content(0) for pack in there.packs])
    remove_and_pack(open_bank(bank.path))
    assert (there.names(), [pack.content(0) for pack in there.packs]) == before
    assert bank.task_names() == [name for name in before[0] if name != "late"]


def test_a_task_that_is_removed_beside_a_reader_is_said_to_be_missing(bank: Bank) -> None:
    reader = open_bank(bank.path)
    assert reader.read_task("late")
    open_bank(bank.path).remove_task("late")
    with pytest.raises(TaskNotFound, match="has no task 'late'"):
        reader.read_task("late")


def test_no_task_of_this_name_is_packed_between_looking_for_one_and_storing_another(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be hidden by the one that is stored, and gone with the next pack."""
    looked = []
    packed = task_store.TaskStore.packed

    def while_looking(store: task_store.TaskStore, name: str) -> object:
        with pytest.raises(StorageError, match="another process"), exclusive(bank.path / "tasks", wait=False):
            pass
        looked.append(name)
        return packed(store, name)

    with monkeypatch.context() as patch:
        patch.setattr(task_store.TaskStore, "packed", while_looking)
        with pytest.raises(TaskExists):
            add(bank, "rotated-digits-3", "rotated-digits/3")
        add(bank, "new", "rotated-digits/8")
    assert looked == ["rotated-digits-3", "new"]


def test_six_threads_read_one_bank_while_another_packs(bank: Bank) -> None:
    reader, writer, over = open_bank(bank.path), open_bank(bank.path), threading.Event()
    stay = ["late", "one", "rotated-digits-3", "rotated-digits-4"]
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not over.is_set():
                names = reader.task_names()
                assert set(stay) <= set(names)
                for name in stay:
                    assert reader.read_task(name)[0].name == name
                assert reader.find_task("rotated-digits/4") == "rotated-digits-4"
                assert {one.name for one in reader.summarise_tasks()} >= set(stay)
                assert {name for name, _ in groups(reader)} >= set(stay)
        except BaseException as error:
            failed.append(error)
            over.set()

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for number in range(15):
        if over.is_set():
            break
        name = f"passing-{number % 3}"
        add(writer, name, f"rotated-digits/{number + 10}")
        pack_tasks(writer)
        writer.remove_task(name)
    over.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert verify_bank(bank.path).ok
