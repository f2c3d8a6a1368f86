"""What tasks call their classes: in the record or, where it has no room, in a part; as many names as classes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import small_bank
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import BankMismatch, FormatError, UsageError
from impress_format.limits import MAX_STORED_NAMES
from impress_format.operations.create import extend_plan, write_plan
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.operations.pack import pack_tasks
from impress_format.parts.class_names import (
    differing_names,
    fit_in_record,
    restore_class_names,
    store_class_names,
    unstorable,
)
from impress_format.parts.numbers import NumbersError
from impress_format.parts.table import stored_parts
from impress_format.tasks.file import seal_parts, seal_task
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.short import parse_task
from impress_format.tasks.text import write_text

LONG = ("é" * 1024, "ü" * 1024, "ß" * 1024)
"""Three names that a record has no room for, of as many classes as small_bank's network has."""
FOUR = tuple(f"{name}{'é' * 600}" for name in "abc")
ALPHA = np.ones((2, 2), dtype=np.float32)

names = st.lists(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), min_size=1, max_size=40
    ).filter(lambda name: unstorable([name]) is None),
    min_size=2,
    max_size=40,
)


def record(bank: Bank, name: str = "mine", **changes: object) -> TaskRecord:
    return small_bank.changed(small_bank.task_record(bank, name, f"folder:{name}"), **changes)


@given(names)
def test_names_come_back_as_they_were_stored(given_names: list[str]) -> None:
    assert restore_class_names(store_class_names(given_names)) == tuple(given_names)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stored", [("rose", "red", "blue"), LONG, FOUR])
def test_a_task_keeps_names_of_any_length(tmp_path: Path, stored: tuple[str, ...], packed: bool) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    bank.write_task(record(bank, class_names=stored), stored_parts(alpha=ALPHA))
    bank.write_task(record(bank, "plain"), stored_parts(alpha=ALPHA))
    content = bank.task_bytes("mine")
    assert ("classes" in parse_task(Path("mine"), content).tensors) != fit_in_record(stored)
    if packed:
        pack_tasks(bank)
    opened = open_bank(bank.path)
    assert opened.read_task_record("mine").class_names == stored
    assert opened.read_stored("mine").record.class_names == stored
    assert opened.read_task_record("plain").class_names == ()
    assert opened.task_bytes("mine") == content
    assert verify_bank(bank.path).ok


def test_long_names_are_compressed(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    assert bank.write_task(record(bank, class_names=LONG), stored_parts(alpha=ALPHA)) < 1000


def test_long_names_travel_with_their_task(tmp_path: Path) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    bank.write_task(record(bank, class_names=LONG), stored_parts(alpha=ALPHA))
    export_task(bank, "mine", tmp_path / "a.safetensors")
    other = small_bank.make(tmp_path / "b.impress")
    import_tasks(other, [tmp_path / "a.safetensors"], "other")
    assert open_bank(other.path).read_task_record("other").class_names == LONG


@pytest.mark.parametrize(
    ("named", "classes", "words"),
    [
        (("a", "b"), 0, None),  # as tasks of two folders were stored before they said how many classes they have
        (("a", "b"), 2, None),
        (("a", "b", "c"), 2, "names 3 classes, and has 2"),
        (("a", "b", "c", "d"), 0, "names 4 classes, and has 3"),
        ((), 2, None),
        ((), 3, "3 classes of its own"),
        ((), 7, "7 classes of its own"),
        (("x",), 0, "names 1 classes"),
    ],
)
def test_a_task_without_a_head_has_no_more_classes_than_the_network(
    tmp_path: Path, named: tuple[str, ...], classes: int, words: str | None
) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    written = record(bank, class_names=named, classes=classes)
    if words is None:
        bank.write_task(written, stored_parts(alpha=ALPHA))
        assert bank.read_task_record("mine").settings.classes.count == classes
        return
    with pytest.raises(UsageError, match=words):
        bank.write_task(written, stored_parts(alpha=ALPHA))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (np.frombuffer(b"no frame", dtype=np.uint8), "frame"),
        (store_class_names(["a", "b", "c", "d"]), "names 4 classes, and has 3"),
        (store_class_names(["a"]), "names 1 classes"),
        (store_class_names(["a", ""]), "gives a class the name ''"),
        (store_class_names(["a", "b\t"]), "none may have"),
        (np.frombuffer(zstandard.compress(b"a\n\xff"), dtype=np.uint8), "holds no names"),
        (np.concatenate([store_class_names(["a", "b"]), np.zeros(1, np.uint8)]), "holds no names"),
    ],
)
def test_a_part_that_names_no_classes_is_refused(
    tmp_path: Path, packed: bool, classes: npt.NDArray[np.uint8], words: str
) -> None:
    bank = small_bank.make(tmp_path / "a.impress")
    parts = stored_parts(alpha=ALPHA, classes=classes)
    with pytest.raises(UsageError, match=words):
        seal_task(record(bank), parts, bank.manifest)
    bank.task_path("mine").write_bytes(seal_parts(Path("mine"), write_text(record(bank)), parts))
    if packed:
        pack_tasks(bank)
    assert [one.error for one in verify_bank(bank.path).problems if words in one.error]
    with pytest.raises(FormatError, match=words):
        open_bank(bank.path).read_task_record("mine")


def test_a_part_of_more_names_than_allowed_is_never_unpacked() -> None:
    frame = zstandard.compress(bytes(MAX_STORED_NAMES + 1))
    with pytest.raises(NumbersError, match="expected 1 to"):
        restore_class_names(np.frombuffer(frame, dtype=np.uint8))


def test_a_bank_names_the_classes_that_its_masks_were_trained_on(tmp_path: Path) -> None:
    plan = small_bank.plan("folder:pets", 3)
    planned = small_bank.manifest(plans=(*small_bank.PLANS, plan))
    named = msgspec.structs.replace(planned, mask_classes={"folder:pets": ("bear", "cat")})
    bank = write_plan(tmp_path / "a.impress", named)
    assert bank.manifest.classes_of_mask("folder:pets") == ("bear", "cat")
    assert bank.manifest.classes_of_mask("rotated-digits/0") == ()
    assert b"mask_classes" not in (write_plan(tmp_path / "b.impress", planned).path / "bank.json").read_bytes()


def test_a_mask_of_other_classes_is_not_added(tmp_path: Path) -> None:
    first = small_bank.plan("folder:pets", 3)
    bank = write_plan(tmp_path / "a.impress", small_bank.manifest())
    bank = extend_plan(bank, [first], {"folder:pets": ("bear", "cat")})
    more = small_bank.plan("folder:pets", 4)
    with pytest.raises(BankMismatch, match="no longer bear, now also zbear"):
        extend_plan(bank, [more], {"folder:pets": ("cat", "zbear")})
    again = extend_plan(bank, [more], {"folder:pets": ("bear", "cat")})
    assert again.manifest.classes_of_mask("folder:pets") == ("bear", "cat")
    assert len(again.manifest.masks) == len(bank.manifest.masks) + 1


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"folder:other": ("a", "b")}, "no mask was trained for"),
        ({"rotated-digits/0": tuple("abcd")}, "the backbone has 3"),
    ],
)
def test_a_manifest_names_classes_of_its_masks_alone(
    tmp_path: Path, named: dict[str, tuple[str, ...]], words: str
) -> None:
    with pytest.raises(FormatError, match=words):
        write_plan(tmp_path / "a.impress", msgspec.structs.replace(small_bank.manifest(), mask_classes=named))


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ("ab", "bc", "no longer a, now also c"),
        ("ab", "abc", "now also c"),
        ("ab", "ba", "in another order"),
        ("abcdefgh", "a", "no longer b, c, d, e, f and 2 more"),
    ],
)
def test_what_differs_is_said(before: str, now: str, words: str) -> None:
    assert differing_names(list(before), list(now)) == words


@pytest.mark.parametrize("name", ["", "a\tb", "a\nb", "\u200b", "a\udcff", "x" * 1025])
def test_names_that_no_bank_stores(name: str) -> None:
    assert unstorable(["fine", name]) == name
    assert unstorable(["fine", "a b", "ünï"]) is None
