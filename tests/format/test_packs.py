"""Packs: loose and packed tasks are one set, the same whichever they are (docs/format.md, Packs)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import small_bank
from hypothesis import given, settings
from hypothesis import strategies as st

from impress_format import Bank, open_bank, verify_bank
from impress_format.errors import AmbiguousTask, BankMismatch, FormatError, ImpressError, TaskExists, TaskNotFound
from impress_format.operations.pack import pack_tasks
from impress_format.parts.alpha import alpha_columns
from impress_format.parts.numbers import NumberType, store
from impress_format.parts.table import stored_parts
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.pack import OWN, OWN_END, open_pack
from impress_format.tasks.record import TaskRecord

TYPES: tuple[NumberType, ...] = ("float32", "float16", "int8")
GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress")


def add(
    bank: Bank, name: str, task: str, *, masks: int = 2, granularity: int = 1, kind: NumberType = "float32"
) -> None:
    columns = sum(alpha_columns(small_bank.LAYERS, granularity))
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    alpha = np.random.default_rng(seed).standard_normal((masks, columns)).astype(np.float32)
    record = TaskRecord(
        name=name,
        task=task,
        basis=bank.basis_digest(masks),
        accuracy=0.5,
        train_accuracy=0.625,
        fit=TaskTrainingRecord(epochs=3, lr=0.03, seed=seed % 3),
        settings=small_bank.settings(granularity=granularity),
    )
    bank.write_task(record, stored_parts(alpha=store(alpha, kind)))


def _record_and_alpha(bank: Bank, name: str) -> tuple[TaskRecord, bytes]:
    record, alpha = bank.read_task(name)
    return record, alpha.tobytes()


def everything(bank: Bank) -> dict[str, tuple[TaskRecord, bytes, str | None]]:
    """All that can be read of the tasks, from a bank opened anew."""
    opened = open_bank(bank.path)
    return {
        name: (*_record_and_alpha(opened, name), small_bank.alpha_type(opened.read_stored(name)))
        for name in opened.task_names()
    }


def put_in_long_form(bank: Bank) -> None:
    for path in (bank.path / "tasks").glob("*.safetensors"):
        path.write_bytes(small_bank.in_long_form(path.read_bytes()))


def files(bank: Bank, folder: str) -> list[str]:
    return sorted(path.name for path in (bank.path / folder).glob("[!.]*"))


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
TASKS = st.lists(
    st.tuples(NAMES, st.integers(1, 3), st.integers(1, 4), st.sampled_from(TYPES), st.booleans(), st.booleans()),
    min_size=1,
    max_size=12,
    unique_by=lambda task: task[0].casefold(),
)


@settings(max_examples=25)
@given(tasks=TASKS)
def test_packing_changes_nothing_that_can_be_read(
    tasks: list[tuple[str, int, int, NumberType, bool, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bank = small_bank.make(tmp_path_factory.mktemp("bank") / "a.impress")
    for number, (name, masks, granularity, kind, early, long) in enumerate(tasks):
        if name not in ("one", "two"):
            add(bank, name, f"rotated-digits/{number + 3}", masks=masks, granularity=granularity, kind=kind)
            if long:
                path = bank.task_path(name)
                path.write_bytes(small_bank.in_long_form(path.read_bytes()))
        if early:
            pack_tasks(bank)
    before, loose = everything(bank), {name: bank.tasks.read(name) for name in bank.task_names()}
    packed = pack_tasks(bank)
    assert everything(bank) == before
    assert (packed.tasks, packed.loose, len(files(bank, "packs"))) == (len(before), 0, packed.packs)
    assert files(bank, "tasks") == []
    assert verify_bank(bank.path).ok
    opened = open_bank(bank.path)
    summaries = opened.summarise_tasks()
    assert [one.name for one in summaries] == list(before)
    for one in summaries:
        assert one == opened.summarise_task(one.name)
        here, there = opened.tasks.read(one.name), loose[one.name]
        assert here is not None
        assert there is not None
        assert here[1] == there[1]  # the bytes of its own file
    assert pack_tasks(bank).bytes == packed.bytes
    assert everything(bank) == before


def test_a_packed_task_is_found_by_name_and_by_reference(bank: Bank) -> None:
    add(bank, "again", "rotated-digits/2")
    add(bank, "rotated-digits-20", "rotated-digits/20")
    pack_tasks(bank)
    assert bank.find_task("one") == "one"
    assert bank.find_task("rotated-digits/1") == "one"
    assert bank.find_task("rotated-digits/20") == "rotated-digits-20"
    with pytest.raises(AmbiguousTask, match="again, two"):
        bank.find_task("rotated-digits/2")
    with pytest.raises(TaskNotFound, match="it has again, one, rotated-digits-20, two"):
        bank.find_task("rotated-digits/3")


def test_where_every_name_is_made_from_its_reference_no_text_is_searched(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "b.impress")
    for name in ("one", "two"):
        bank.remove_task(name)
    for key in range(1, 40):
        add(bank, f"rotated-digits-{key}", f"rotated-digits/{key}")
    pack_tasks(bank)
    (pack,) = bank.tasks.packs()
    assert pack.record.named == 0
    for key in range(1, 40):
        assert pack.find_task(f"rotated-digits/{key}") == [f"rotated-digits-{key}"]
    for other in ("rotated-digits/40", "rotated/digits-3", "folder:/a b", "rotated-digits-3"):
        assert pack.find_task(other) == []


def test_a_packed_task_is_removed_and_its_name_is_free_again(bank: Bank) -> None:
    record, alpha = bank.read_task("one")
    pack_tasks(bank)
    with pytest.raises(TaskExists):
        bank.write_task(record, stored_parts(alpha=alpha))
    assert bank.remove_task("one") == "one"
    assert bank.task_names() == ["two"]
    assert files(bank, "tasks") == ["one.removed"]
    for ask in (bank.read_task, bank.find_task, bank.remove_task, bank.summarise_task):
        with pytest.raises(TaskNotFound):
            ask("one")
    assert verify_bank(bank.path).ok
    bank.write_task(record, stored_parts(alpha=-alpha))
    assert (bank.read_task("one")[1] == -alpha).all()
    bank.remove_task("one")
    assert bank.task_names() == ["two"]
    pack_tasks(bank)
    assert (bank.task_names(), files(bank, "tasks"), len(files(bank, "packs"))) == (["two"], [], 1)


def test_a_packed_task_is_replaced(bank: Bank) -> None:
    record, alpha = bank.read_task("one")
    pack_tasks(bank)
    bank.write_task(record, stored_parts(alpha=-alpha), replace=True)
    assert (open_bank(bank.path).read_task("one")[1] == -alpha).all()
    pack_tasks(bank)
    assert (open_bank(bank.path).read_task("one")[1] == -alpha).all()
    assert files(bank, "tasks") == []


def test_the_last_task_of_a_pack_takes_the_pack_with_it(bank: Bank) -> None:
    pack_tasks(bank)
    for name in ("one", "two"):
        bank.remove_task(name)
    packed = pack_tasks(bank)
    assert (packed.tasks, packed.packs, packed.bytes) == (0, 0, 0)
    assert (bank.task_names(), files(bank, "packs"), files(bank, "tasks")) == ([], [], [])


def test_a_bank_that_was_open_meanwhile_sees_new_packs(bank: Bank) -> None:
    other = open_bank(bank.path)
    assert other.task_names() == ["one", "two"]
    pack_tasks(bank)
    assert (other.read_task("one")[1] == small_bank.ALPHA).all()
    add(bank, "three", "rotated-digits/3")
    pack_tasks(bank)
    assert other.task_names() == ["one", "three", "two"]


def test_a_bank_of_version_1_has_no_packs(tmp_path: Path) -> None:
    with pytest.raises(BankMismatch, match="version 1, which has no packs: run `impress bank upgrade` first"):
        pack_tasks(open_bank(GOLDEN_V1))


def test_a_damaged_task_is_not_packed_and_nothing_changes(bank: Bank) -> None:
    path = bank.task_path("one")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(FormatError, match="damaged"):
        pack_tasks(bank)
    assert (files(bank, "tasks"), files(bank, "packs")) == (["one.safetensors", "two.safetensors"], [])


def test_every_changed_byte_of_a_pack_is_noticed(bank: Bank) -> None:
    pack_tasks(bank)
    (path,) = (bank.path / "packs").iterdir()
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        outcome = verify_bank(bank.path)
        assert [problem.file for problem in outcome.problems] == [f"packs/{path.name}"], at


# Packs made to harm: each has the right checksum and name.

Columns = dict[str, np.ndarray]


def remade(bank: Bank, change: Callable[[Columns], Mapping[str, np.ndarray]], *, short: bool, **record: object) -> Path:
    """The bank's one pack with other columns or another record, sealed and named as it must be."""
    (path,) = (bank.path / "packs").iterdir()
    columns = change({name: column.copy() for name, column in safetensors.numpy.load_file(path).items()})
    text = json.dumps(
        {
            "format_version": 2,
            "tasks": 2,
            "named": 2,
            **record,
            **({"short": True} if short else {}),
            "digest": "0" * 32,
        },
        separators=(",", ":"),
    )
    content = safetensors.numpy.save(dict(columns), metadata={"impress": text})
    digest = hashlib.sha256(content).hexdigest()[:32]
    path.unlink()
    path = path.with_name(f"{digest[:16]}.safetensors")
    path.write_bytes(content.replace(b"0" * 32, digest.encode(), 1))
    return path


def with_column(name: str, column: np.ndarray) -> Callable[[Columns], Columns]:
    return lambda columns: {**columns, name: column}


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Columns], Columns]:
    return lambda columns: {**columns, name: change(columns[name])}


def text_with(old: bytes, new: bytes) -> Callable[[Columns], Columns]:
    """The texts of the tasks with one place of equal length changed."""
    assert len(old) == len(new)
    return changed("own.text", lambda text: np.frombuffer(text.tobytes().replace(old, new, 1), np.uint8))


def swapped(columns: Columns) -> Columns:
    """The same two tasks in falling order of their names."""
    text, ends = columns["own.text"].tobytes(), columns["own.end"]
    first, second = text[: ends[0]], text[ends[0] :]
    both = np.frombuffer(second + first, np.uint8)
    ends = np.array([len(second), len(text)], np.uint32)
    return {**columns, "own.text": both, "own.end": ends, "digest": columns["digest"][::-1].copy(),
            "alpha": columns["alpha"][::-1].copy()}  # fmt: skip


HOSTILE: list[tuple[str, Callable[[Columns], Mapping[str, np.ndarray]], dict[str, object], str]] = [
    ("another number of tasks", dict, {"tasks": 3}, "says it has 3 tasks"),
    ("another number of names", dict, {"named": 0}, "says that 0 tasks have names of their own, 2 have"),
    ("a version to come", dict, {"format_version": 3}, "PackRecord"),
    ("no texts", lambda columns: {k: v for k, v in columns.items() if k != "own.text"}, {}, "lacks"),
    ("no part", lambda columns: {k: v for k, v in columns.items() if k != "alpha"}, {}, "no part"),
    ("an unknown part", with_column("beta", np.zeros((2, 2), np.float32)), {}, "beta"),
    ("a part of too many axes", with_column("alpha", np.zeros((2, 2, 2, 1), np.float32)), {}, "expected 2 rows"),
    ("a part of one row", with_column("alpha", np.zeros((1, 2, 2), np.float32)), {}, "expected 2 rows"),
    ("texts of two axes", changed("own.text", lambda text: text[:, None]), {}, "row of bytes"),
    ("ends of another type", changed("own.end", lambda ends: ends.astype(np.float32)), {}, "row of uint32"),
    ("digests of 15 bytes", changed("digest", lambda digests: digests[:, :15].copy()), {}, "expected uint8 (2, 16)"),
    ("ends that fall", changed("own.end", lambda ends: ends[::-1].copy()), {}, "does not ascend"),
    ("an end past the end", changed("own.end", lambda ends: ends + np.uint32(9)), {}, "does not ascend"),
    ("an empty text", changed("own.end", lambda ends: ends * np.array([0, 1], np.uint32)), {}, "does not ascend"),
    ("a common text that is not there", with_column("common.of", np.array([0, 7], np.uint32)), {}, "text 7"),
    ("names that fall", swapped, {}, "names must ascend"),
    ("a name twice", text_with(b'"two"', b'"one"'), {}, "names must ascend"),
    ("a path for a name", text_with(b'"two"', b'"../"'), {}, "no valid text"),
    ("a text that ends the array", text_with(b'"two"', b"1],[2"), {}, "no valid text"),
    ("no JSON", text_with(b'"two"', b'"two,'), {}, "no valid text"),
    ("no UTF-8", text_with(b'"two"', b'"\xff\xff\xff"'), {}, "no valid text"),
    ("accuracy of 900 %", text_with(b"0.9,", b"9.0,"), {}, "no valid text"),
    ("another accuracy", text_with(b"0.9,", b"0.8,"), {}, "task one is damaged"),
    ("another task's digest", changed("digest", lambda digests: digests[::-1].copy()), {}, "is damaged"),
    ("other numbers", changed("alpha", lambda alpha: alpha * np.float32(2)), {}, "is damaged"),
    ("NaN", changed("alpha", lambda alpha: alpha * np.float32(np.nan)), {}, "NaN"),
    ("more rows than masks", changed("alpha", lambda alpha: np.tile(alpha, (1, 2, 1))), {}, "weighs 4 masks"),
    ("another number of columns", changed("alpha", lambda alpha: alpha[:, :, :1].copy()), {}, "(masks, 2)"),
    ("another basis", changed("common.text", lambda text: np.where(text == ord("f"), ord("e"), text).astype("u1")), {},
     "another basis"),
]  # fmt: skip


@pytest.mark.parametrize("short", [True, False], ids=["short", "long"])
@pytest.mark.parametrize(("change", "record", "words"), [case[1:] for case in HOSTILE], ids=[c[0] for c in HOSTILE])
def test_verify_names_the_pack_and_what_is_wrong_with_it(
    bank: Bank,
    change: Callable[[Columns], Mapping[str, np.ndarray]],
    record: dict[str, object],
    words: str,
    short: bool,
) -> None:
    if not short:
        put_in_long_form(bank)
    pack_tasks(bank)
    path = remade(bank, change, short=short, **record)
    (problem,) = verify_bank(bank.path).problems
    assert problem.file == f"packs/{path.name}"
    assert words in problem.error
    assert "checksum, not" not in problem.error
    for ask in (bank.task_names, bank.summarise_tasks, lambda: bank.read_task("one"), lambda: bank.read_task("two")):
        with contextlib.suppress(ImpressError):
            ask()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("own.text", b"0.95", b"9e-1"), ("own.text", b"0.95", b"0.9 "), ("common.text", b"0.03", b"3e-2")],
)
def test_no_own_file_of_the_short_form_has_another_text_than_a_writer_writes(
    bank: Bank, name: str, old: bytes, new: bytes
) -> None:
    pack_tasks(bank)
    change = changed(name, lambda text: np.frombuffer(text.tobytes().replace(old, new), np.uint8))
    remade(bank, change, short=True)
    (problem,) = verify_bank(bank.path).problems
    assert any(words in problem.error for words in ("writer writes it", "no valid text"))
    with pytest.raises(FormatError):
        bank.read_task("one")


def test_tasks_of_both_forms_are_packed_apart_and_come_back_as_they_were(bank: Bank) -> None:
    path = bank.task_path("one")
    path.write_bytes(small_bank.in_long_form(path.read_bytes()))
    before, loose = everything(bank), {name: bank.task_bytes(name) for name in bank.task_names()}
    for _ in range(2):
        assert pack_tasks(bank).packs == 2
        assert everything(bank) == before
        assert {name: bank.task_bytes(name) for name in bank.task_names()} == loose
        assert verify_bank(bank.path).ok


def test_a_pack_under_another_name_is_refused(bank: Bank) -> None:
    pack_tasks(bank)
    (path,) = (bank.path / "packs").iterdir()
    path.rename(path.with_name("0123456789abcdef.safetensors"))
    (problem,) = verify_bank(bank.path).problems
    assert "with which its name must begin" in problem.error


def test_two_packs_may_have_one_task_only_if_it_is_the_same(bank: Bank) -> None:
    """A process that was killed while packing leaves the old pack beside the new one."""
    pack_tasks(bank)
    (first,) = (bank.path / "packs").iterdir()
    content = first.read_bytes()
    record, alpha = bank.read_task("one")
    add(bank, "three", "rotated-digits/3")
    pack_tasks(bank)
    first.write_bytes(content)
    assert verify_bank(bank.path).ok
    assert bank.task_names() == ["one", "three", "two"]
    bank.write_task(record, stored_parts(alpha=-alpha), replace=True)
    first.unlink()
    pack_tasks(bank)
    first.write_bytes(content)
    (problem,) = verify_bank(bank.path).problems
    assert "is in another pack too, and not the same" in problem.error


@pytest.mark.parametrize("name", ["packs/notes.txt", "packs/sub", "tasks/a b.removed"])
def test_what_is_no_pack_does_not_belong(bank: Bank, name: str) -> None:
    pack_tasks(bank)
    (bank.path / name).write_bytes(b"")
    (problem,) = verify_bank(bank.path).problems
    assert (problem.file, problem.error) == (name, "does not belong in a bank")


def test_a_mark_of_removal_is_an_empty_file(bank: Bank) -> None:
    pack_tasks(bank)
    (bank.path / "tasks" / "one.removed").write_bytes(b"x")
    (problem,) = verify_bank(bank.path).problems
    assert problem.file == "tasks/one.removed"


@pytest.mark.parametrize("what", ["packs", "a pack"])
def test_links_are_refused(bank: Bank, what: str, tmp_path: Path) -> None:
    pack_tasks(bank)
    link = bank.path / "packs" if what == "packs" else next((bank.path / "packs").iterdir())
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match=r"link|plain"):
        open_bank(bank.path).task_names()
    assert not verify_bank(bank.path).ok


def test_tasks_of_one_fit_share_its_text(bank: Bank) -> None:
    pack_tasks(bank)
    (path,) = (bank.path / "packs").iterdir()
    pack = open_pack(path)
    assert len(pack) == 2
    assert [pack.text(row, OWN, OWN_END) for row in range(2)] == [
        b'"rotated-digits/1",0.9,0.95,"one"',
        b'"rotated-digits/2",0.9,0.95,"two"',
    ]
    assert pack.shared_bytes(0) == pack.shared_bytes(1)
    assert pack.row_bytes == 4 + 4 + 16 + small_bank.ALPHA.nbytes
