"""`task update` goes on from a task's own coefficients; `--alpha-dtype` says in how many bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import small_bank
from commandline import Impress, contents

from impress_format import open_bank
from impress_format.tasks.short import parse_task

TASK, NEXT = "rotated-digits-60", "rotated-digits/65"
UPDATE = ("task", "update", "a.impress", TASK, NEXT, "--epochs", 1, "--shots", 5)


def test_the_task_keeps_its_name_and_gets_the_new_reference(impress: Impress, bank: Path) -> None:
    before, alpha = open_bank(bank).read_task(TASK)
    (updated,) = impress(*UPDATE, "--json").json["tasks"]
    record, after = open_bank(bank).read_task(TASK)
    assert (updated["name"], updated["task"], updated["coefficients"]) == (TASK, NEXT, alpha.size)
    assert record.fit is not None
    assert (record.task, record.accuracy, record.fit.start) == (NEXT, updated["accuracy"], before.digest)
    assert alpha.shape == after.shape
    assert impress("bank", "verify", bank).code == 0


def test_it_starts_from_the_coefficients_the_task_has(impress: Impress, bank: Path) -> None:
    before, alpha = open_bank(bank).read_task(TASK)
    assert impress(*UPDATE, "--lr", 1e-7).code == 0
    after, same = open_bank(bank).read_task(TASK)
    assert after.fit is not None
    assert after.fit.start == before.digest
    assert np.array_equal(alpha, same)  # less than half a step of int8


def test_given_again_it_changes_nothing_and_another_seed_goes_on(impress: Impress, bank: Path) -> None:
    first = impress(*UPDATE, "--json").json
    stored = contents(bank)
    again = impress(*UPDATE, "--json")
    assert contents(bank) == stored
    assert "updated with these settings already" in again.err
    assert again.json["tasks"][0] == {**first["tasks"][0], "seconds": 0.0}
    assert impress(*UPDATE, "--seed", 1).code == 0
    assert contents(bank) != stored


def test_equal_updates_give_equal_bytes(impress: Impress, bank: Path, tmp_path: Path) -> None:
    shutil.copytree(bank, tmp_path / "b.impress")
    impress(*UPDATE)
    impress(*("b.impress" if word == "a.impress" else word for word in UPDATE))
    assert contents(bank) == contents(tmp_path / "b.impress")


def test_a_task_of_a_bank_that_was_extended_keeps_its_masks(impress: Impress, bank: Path) -> None:
    assert impress("bank", "extend", bank, "rotated-digits/10", "--masks-per-task", 0, "--random-masks", 1).code == 0
    assert impress(*UPDATE).code == 0
    assert len(open_bank(bank).read_task(TASK)[1]) == 3


def test_each_type_takes_its_bytes_a_coefficient_and_is_kept(impress: Impress, bank: Path) -> None:
    fit = ("--epochs", 1, "--shots", 5, "--granularity", 16)
    sizes = {}
    for number, (kind, stored) in enumerate((("float32", "f4"), ("float16", "f2"), ("int8", "u1")), start=61):
        (task,) = impress("task", "add", bank, f"rotated-digits/{number}", *fit, "--alpha-dtype", kind, "--json").json[
            "tasks"
        ]
        path = open_bank(bank).task_path(task["name"])
        assert parse_task(path, path.read_bytes()).tensors["alpha"].numpy == np.dtype(stored)
        assert open_bank(bank).read_task(task["name"])[1].dtype == np.float32
        # The accuracy written down is that of the coefficients as they are stored.
        (measured,) = impress("eval", bank, task["name"], "--json").json["tasks"]
        assert measured["accuracy"] == pytest.approx(task["accuracy"], abs=1e-4)
        impress("task", "update", bank, task["name"], f"rotated-digits/{number + 10}", "--epochs", 1, "--shots", 5)
        assert small_bank.alpha_type(open_bank(bank).read_stored(task["name"])) == kind
        sizes[kind] = task["bytes"]
        coefficients = task["coefficients"]
    assert sizes["float32"] - sizes["float16"] == pytest.approx(2 * coefficients, abs=8)
    columns = coefficients // 3  # of three masks; each has a scale of two bytes
    assert sizes["float16"] - sizes["int8"] == pytest.approx(coefficients - 2 * columns, abs=8)


def test_int8_is_the_default(impress: Impress, bank: Path) -> None:
    (task,) = impress("task", "add", bank, "rotated-digits/64", "--epochs", 1, "--json").json["tasks"]
    assert small_bank.alpha_type(open_bank(bank).read_stored(task["name"])) == "int8"
    assert task["bytes"] < 200 + 64


def test_a_task_may_do_without_a_signature(impress: Impress, bank: Path) -> None:
    words = ("task", "add", bank, "rotated-digits/65", "--epochs", 1, "--shots", 5, "--no-signature", "--json")
    (task,) = impress(*words).json["tasks"]
    assert small_bank.signature_of(open_bank(bank), task["name"]) is None
    assert task["bytes"] < 200
    path = open_bank(bank).task_path(task["name"])
    for content in (path.read_bytes(), small_bank.in_long_form(path.read_bytes())):  # as earlier drafts wrote it
        path.write_bytes(content)
        (again,) = impress(*words).json["tasks"]
        assert (again["seconds"], again["bytes"]) == (0, len(content))
        assert path.read_bytes() == content
    refused = impress("task", "add", bank, "rotated-digits/65", "--epochs", 1, "--shots", 5)
    assert (refused.code, "made with other settings" in refused.err) == (2, True)
    done = impress("eval", bank, "--gn", "--samples", 20, "--groups", 1, "--json").json
    assert done["method"] == "exhaustive"  # where one has none, auto tries all tasks out
    told = impress("eval", bank, "--gn", "--samples", 20, "--groups", 1, "--method", "signature")
    assert told.code != 0
    assert "rotated-digits-65 has none" in told.err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("nothing", NEXT), 2, "has no task 'nothing'"),
        ((TASK, "rotated-digits/0:30:10"), 2, "names 3 tasks"),
        ((TASK, "rotated-nothing/3"), 2, "rotated-nothing"),
        ((TASK, NEXT, "--shots", 0), 2, "--shots 0"),
        ((TASK, NEXT, "--lr", 1e30, "--epochs", 5), 1, "diverged"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_task_stays(
    impress: Impress, bank: Path, arguments: tuple[object, ...], status: int, words: str
) -> None:
    before = contents(bank)
    refused = impress("task", "update", bank, *arguments)
    assert (refused.code, contents(bank)) == (status, before)
    assert words in refused.err
    assert "Traceback" not in refused.err


def test_float16_refuses_coefficients_beyond_its_range(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    refused = impress(
        "task", "add", bank, "rotated-digits/61", "--epochs", 1, "--shots", 5, "--lr", 1e7, "--alpha-dtype", "float16"
    )
    assert (refused.code, contents(bank)) == (1, before)
    assert "too large for float16" in refused.err
