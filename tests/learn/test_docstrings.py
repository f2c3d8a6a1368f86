"""Public docstrings: every parameter is named, what is returned and raised is said, and the examples run."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import impress_format
import impress_learn
from impress_learn import MaskTraining, TaskTraining, add_tasks, create_bank, load_bank
from impress_learn.parts.table import Parts
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

DOCS = Path(__file__).parents[2] / "docs"
OF_THE_FORMAT = ("Bank", "ImpressError", "open_bank")
"""Names of impress_format, which docs/python.md has in a table."""
METHODS = ("accuracy", "logits", "mask_weights", "module", "predict", "task_weights", "transform")
"""Of a LoadedBank."""
NAMES = [name for name in impress_learn.__all__ if name not in OF_THE_FORMAT]
PUBLIC: dict[str, Any] = {
    **{name: getattr(impress_learn, name) for name in NAMES},
    **{f"LoadedBank.{name}": getattr(impress_learn.LoadedBank, name) for name in METHODS},
}
FUNCTIONS = [name for name, one in PUBLIC.items() if inspect.isfunction(one)]
RECORDS = [name for name, one in PUBLIC.items() if inspect.isclass(one)]


def section(documented: Any, title: str) -> str:
    """The lines of a section of a docstring, without their indentation; empty where it has none."""
    text = inspect.getdoc(documented) or ""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", text + "\n", flags=re.MULTILINE)
    return "" if found is None else inspect.cleandoc("\n" + found[1])


def named(text: str) -> set[str]:
    """What `name: words` and `one, other: words` begin with, of lines that are not indented."""
    entries = re.findall(r"^([a-z_]\w*(?:, [a-z_]\w*)*): \S", text, flags=re.MULTILINE)
    return {name for entry in entries for name in entry.split(", ")}


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


def test_every_public_name_is_looked_at() -> None:
    assert {*FUNCTIONS, *RECORDS} == set(PUBLIC)
    assert len(FUNCTIONS) > 15


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented_and_no_other(name: str) -> None:
    assert named(section(PUBLIC[name], "Args")) == parameters(PUBLIC[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_returns_and_raises_is_documented(name: str) -> None:
    assert section(PUBLIC[name], "Returns")
    assert section(PUBLIC[name], "Raises") or name in ("LoadedBank.logits", "LoadedBank.mask_weights")


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_is_documented_and_no_other(name: str) -> None:
    assert named(section(PUBLIC[name], "Attributes")) == {field.name for field in dataclasses.fields(PUBLIC[name])}


def test_the_check_itself_notices_what_is_missing() -> None:
    def function(one: int, other: int, third: int) -> None:
        """Words.

        Args:
            one, other: words: and more.
                third: is no entry of its own.

        Raises:
            third: neither.
        """

    assert named(section(function, "Args")) == {"one", "other"}
    assert parameters(function) == {"one", "other", "third"}
    assert section(function, "Returns") == ""


# Examples


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples speak of: a bank with two tasks, two images, two folders of pets."""
    folder = tmp_path_factory.mktemp("stage")
    demo = folder / "build" / "demo.impress"
    create_bank(demo, ["rotated-digits/0:180:60"], fit=MaskTraining(epochs=6))
    add_tasks(demo, ["rotated-digits/15", "rotated-digits/75"], fit=TaskTraining(epochs=6), parts=Parts(bytes=1000))
    images = load_task(parse_reference("rotated-digits/15"), data_dir=None).test
    sure = torch.tensor(
        [one.probability for one in load_bank(demo).predict(list(images.pixels_of(slice(0, 200))), "rotated-digits/15")]
    )
    for number, name in ((7, "seven"), (2, "two")):
        index = int(torch.where(images.labels[:200] == number, sure, 0).argmax())
        Image.fromarray(images.pixels_of(slice(None))[index, 0].numpy()).save(folder / f"{name}.png")
    for number in range(60):
        pet = folder / "pets" / ("train" if number < 40 else "test") / ("cat", "dog")[number % 2]
        pet.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels_of(slice(None))[number, 0].numpy()).save(pet / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name: str, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(stage, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "parse_reference": parse_reference,
        "group_references": impress_learn.group_references,
        **{
            record: getattr(impress_learn, record)
            for record in (
                "Discovery",
                "MaskTraining",
                "Masks",
                "Network",
                "OwnData",
                "Parts",
                "TaskTraining",
                "Progress",
            )
        },
    }
    if name.startswith("LoadedBank."):
        names["loaded"] = load_bank("build/demo.impress")
    if name == "LoadedBank.accuracy":
        from torchvision.datasets import ImageFolder

        impress_learn.add_dataset("build/demo.impress", "pets", ImageFolder("pets/train"), fit=TaskTraining(epochs=2))
    text = section(PUBLIC[name], "Examples")
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert test.examples
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=told.append).failed == 0, "".join(told)


def blocks() -> list[str]:
    """Python of docs/python.md; what the last one does is tested by tests/cli."""
    found: list[str] = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), flags=re.DOTALL)
    return found[:-1]


def test_the_python_page_begins_with_use_in_ten_lines() -> None:
    assert len(blocks()[0].splitlines()) <= 10
    assert "api.md" in (DOCS / "python.md").read_text()


@pytest.mark.parametrize("number", range(len(blocks())))
def test_the_python_of_the_page_runs(
    number: int, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stage, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks()[number], "python.md", "exec"), {})
    if number == 0:
        first, second = capsys.readouterr().out.splitlines()
        assert (first.split()[0], second) == ("7", "7")


# The page


def test_the_api_page_has_every_public_name() -> None:
    listed = re.findall(r"^::: impress_learn\.([\w.]+)$", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(PUBLIC)
    listed = re.findall(r"^::: impress_format\.(\w+)$", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == impress_format.__all__
