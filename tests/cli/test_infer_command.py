"""`impress infer`: task and class of a person's own images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline import Impress
from PIL import Image

from impress_cli import render


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("L", (50, 40), 200).save(tmp_path / "a b.png")
    return tmp_path / "a b.png"


def test_json_and_table_say_the_same(impress: Impress, bank: Path, picture: Path) -> None:
    document = impress("infer", bank, picture, "--task", "rotated-digits/60", "--json").json
    assert set(document) == {"images", "unreadable", "remarks"}
    (found,) = document["images"]
    assert set(found) == {"path", "task", "nearest", "task_probability", "label", "probability"}
    assert found["task_probability"] is None  # it was given
    assert (found["path"], found["task"]) == (str(picture), "rotated-digits/60")
    assert found["label"] in "0123456789"
    printed = impress("infer", bank, picture, "--task", "rotated-digits/60").out
    for text in (found["task"], found["label"], f"{100 * found['probability']:.1f} %"):
        assert text in printed


def test_what_may_make_an_answer_wrong_is_told_on_stderr_and_in_json(
    impress: Impress, bank: Path, tmp_path: Path
) -> None:
    """The bank was made of images of 8 bits, this one has 16."""
    Image.fromarray(np.full((28, 28), 4000, dtype=np.uint16)).save(tmp_path / "deep.png")
    done = impress("infer", bank, tmp_path / "deep.png", "--task", "rotated-digits/60", "--json")
    assert done.code == 0
    (remark,) = done.json["remarks"]
    assert "1 image of more than 8 bits" in remark
    assert remark in done.err


def test_the_task_is_inferred(impress: Impress, bank: Path, picture: Path) -> None:
    for words in ((), ("--one-task",), ("--method", "one-shot"), ("--method", "signature")):
        done = impress("infer", bank, picture, picture, *words, "--json")
        assert done.code == 0, done.err
        assert len(done.json["images"]) == 2


def test_an_image_of_none_of_the_tasks_is_called_so(impress: Impress, bank: Path, picture: Path) -> None:
    """A grey rectangle, and the bank's tasks are digits."""
    (found,) = impress("infer", bank, picture, "--json").json["images"]
    assert found["task"] is None
    assert found["nearest"].startswith("rotated-digits/")
    assert 0 < found["task_probability"] <= 1  # of the nearest, if it were one of these: the table leaves it out
    assert impress("infer", bank, picture).out.count(" %") == 1
    assert f"none of these (nearest: {found['nearest']})" in impress("infer", bank, picture).out
    (guessed,) = impress("infer", bank, picture, "--method", "exhaustive", "--json").json["images"]
    assert guessed["task"] == guessed["nearest"]
    assert guessed["task_probability"] is None


def test_an_image_that_cannot_be_read_makes_the_status_1_at_the_end(
    impress: Impress, bank: Path, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    done = impress("infer", bank, tmp_path / "text.png", picture, "--json")
    assert done.code == 1
    assert "text.png" in done.err
    assert [image["path"] for image in done.json["images"]] == [str(picture)]
    assert len(done.json["unreadable"]) == 1
    done = impress("infer", bank, tmp_path / "text.png")
    assert (done.code, done.out) == (1, "")


ROWS = [("a", "1 %"), ("a much longer name", "100 %"), ("b\n", "3 %"), ("ü", "4 %")]


@pytest.mark.parametrize("parts", [[4], [2, 2], [1, 1, 2]])
def test_what_is_printed_part_by_part_is_one_document_and_one_table(
    parts: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    starts = [sum(parts[:number]) for number in range(len(parts))]
    pieces = [ROWS[start : start + size] for start, size in zip(starts, parts, strict=True)]
    documents = [[{"name": name, "share": share} for name, share in piece] for piece in pieces]
    render.print_json({"rows": [row for piece in documents for row in piece], "others": ["x"], "more": 2})
    expected = capsys.readouterr().out
    render.print_long_json("rows", documents, lambda: {"others": ["x"], "more": 2})
    assert capsys.readouterr().out == expected
    render.print_table("title", ("image", "sure"), ROWS)
    table = capsys.readouterr().out.splitlines()
    render.print_long_table("title", ("image", "sure"), pieces)
    found = capsys.readouterr().out.splitlines()
    assert [line.split() for line in found if "─" not in line] == [line.split() for line in table if "─" not in line]


def test_no_parts_are_an_empty_list_and_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_long_json("rows", [[], []], lambda: {"others": []})
    assert json.loads(capsys.readouterr().out) == {"rows": [], "others": []}
    render.print_long_table("title", ("image", "sure"), [])
    assert capsys.readouterr().out == ""


def test_what_fails_before_the_first_answer_prints_nothing(impress: Impress, bank: Path, picture: Path) -> None:
    task = impress("task", "list", bank, "--json").json["tasks"][0]["name"]
    done = impress("task", "add", bank, "rotated-digits/77", "--no-signature", "--epochs", "1")
    assert done.code == 0, done.err
    for words in ((), ("--json",)):
        refused = impress("infer", bank, picture, "--method", "signature", *words)
        assert (refused.code, refused.out) == (2, "")
    assert impress("infer", bank, picture, "--task", task).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "rotated-digits/60", "--one-task"), "leave out --one-task"),
        (("--task", "nothing"), "no task"),
    ],
)
def test_what_does_not_fit_is_wrong_use(
    impress: Impress, bank: Path, picture: Path, words: tuple[str, ...], message: str
) -> None:
    refused = impress("infer", bank, picture, *words)
    assert refused.code == 2
    assert message in refused.err
