"""Every requirement of docs/format.md has an identifier, and a test that is there.

A sentence of the page that says MUST or MUST NOT begins with its identifier, as [F1]. The section "Conformance" has a
row for each identifier, with the tests that hold it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "format.md").read_text()
SECTION = "\n## Conformance\n"

_IDENTIFIER = re.compile(r"\[([A-Z][1-9][0-9]?)\]")
_BEGIN = re.compile(r"\[[A-Z][1-9][0-9]?\] ")
_MUST = re.compile(r"\bMUST\b")
_ITEM = re.compile(r"\s*(?:[-*]|[0-9]+\.) ")
_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*(\[])|(?<=[.!?]\))\s+")
_ROW = re.compile(r"\| ([A-Z][1-9][0-9]?) \| (.+?) \| (.+?) \|$", flags=re.MULTILINE)
_TEST = re.compile(r"`(tests/[a-z]+/test_[a-z0-9_]+\.py)::(test_[a-z0-9_]+)`")
_KEY_WORDS = "as in RFC 2119"
"""What the sentence says that explains the words themselves."""


def normative(page: str) -> str:
    """The page without its section Conformance."""
    before, section, _ = page.partition(SECTION)
    assert section, "the page has no section Conformance"
    return before


def sentences(text: str) -> list[str]:
    """The sentences of a page: of its paragraphs, of the items of its lists, of the cells of its tables."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            blocks += [[cell] for cell in line.strip("|").split("|")]
            blocks.append([])
        elif not line.strip() or line.startswith("#"):
            blocks.append([])
        elif item := _ITEM.match(line):
            blocks.append([line[item.end() :]])
        else:
            blocks[-1].append(line.strip())
    return [sentence for block in blocks for sentence in _ENDS.split(" ".join(block).strip()) if sentence]


def requirements(page: str) -> list[str]:
    """The sentences that demand something."""
    return [one for one in sentences(normative(page)) if _MUST.search(one) and _KEY_WORDS not in one]


def rows(page: str) -> list[tuple[str, str, str]]:
    """Identifier, requirement and tests of each row of the section Conformance."""
    return _ROW.findall(page.partition(SECTION)[2])


def problems(page: str) -> list[str]:
    """What is wrong with identifiers and table."""
    found, defined = [], list[str]()
    for sentence in requirements(page):
        if not _BEGIN.match(sentence):
            found.append(f"no identifier: {sentence}")
        if len(_MUST.findall(sentence)) > 1:
            found.append(f"more than one MUST: {sentence}")
    for sentence in sentences(normative(page)):
        identifiers = _IDENTIFIER.findall(sentence)
        defined += identifiers
        if identifiers and not _MUST.search(sentence):
            found.append(f"an identifier of no requirement: {sentence}")
    listed = [identifier for identifier, _, _ in rows(page)]
    for name, counted in (("page", Counter(defined)), ("table", Counter(listed))):
        found += [f"{identifier} is {count} times in the {name}" for identifier, count in counted.items() if count > 1]
    found += [f"{identifier} has no row" for identifier in defined if identifier not in listed]
    found += [f"the row {identifier} is of no requirement" for identifier in listed if identifier not in defined]
    lines = page.partition(SECTION)[2].strip().splitlines()
    if len([line for line in lines if line.startswith("|")]) != len(listed) + 2:  # a head of two lines
        found.append("a row of the table has another form")
    return found


def missing_tests(page: str) -> list[str]:
    """The tests that the table names and that are not there, and rows that name none."""
    functions: dict[str, set[str]] = {}
    missing = []
    for identifier, _, cell in rows(page):
        named = _TEST.findall(cell)
        if not named or ", ".join(f"`{file}::{test}`" for file, test in named) != cell:
            missing.append(f"{identifier}: {cell}")
        for file, test in named:
            if file not in functions:
                path = ROOT / file
                tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
                functions[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            if test not in functions[file]:
                missing.append(f"{identifier}: {file}::{test}")
    return missing


def test_every_requirement_has_an_identifier_and_a_row() -> None:
    assert problems(PAGE) == []
    assert len(requirements(PAGE)) == len(rows(PAGE)) >= 80


def test_every_test_that_holds_one_is_there() -> None:
    assert missing_tests(PAGE) == []


def test_identifiers_are_counted_from_1_in_each_section() -> None:
    found = _IDENTIFIER.findall("\n".join(requirements(PAGE)))
    for letter in {identifier[0] for identifier in found}:
        numbers = [int(identifier[1:]) for identifier in found if identifier[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))


def test_no_requirement_is_in_a_table_or_in_a_block_of_code() -> None:
    """There the check would not find the sentence that it is part of."""
    lines = normative(PAGE).splitlines()
    assert not [line for line in lines if _MUST.search(line) and line.startswith(("|", "    "))]


LAST = [line for line in PAGE.splitlines() if _ROW.match(line)][-1]
HELD = "`tests/format/test_banks.py::test_only_known_format_versions_are_read`"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (f"{LAST}\n", "", "V2 has no row"),
        (LAST, f"{LAST}\n{LAST}", "V2 is 2 times in the table"),
        (LAST, LAST.replace("V2", "V3"), "the row V3 is of no requirement"),
        (LAST, LAST.replace("| V2", "|V2"), "another form"),
        ("[V2] A reader", "A reader", "no identifier: A reader MUST refuse a newer version as a whole."),
        ("[V2] A reader", "[V1] A reader", "V1 is 2 times in the page"),
        ("[V2] A reader MUST refuse", "[V2] A reader refuses", "an identifier of no requirement"),
        ("There are no minor versions", "There MUST NOT be minor versions", "no identifier: There MUST NOT be minor"),
        ("as a whole.", "as a whole, and MUST say so.", "more than one MUST"),
    ],
)
def test_the_check_itself_notices(old: str, new: str, words: str) -> None:
    assert PAGE.count(old) >= 1
    assert any(words in one for one in problems(PAGE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (HELD, HELD.replace("_read`", "_written`")),
        (HELD, HELD.replace("test_banks", "test_no_banks")),
        (HELD, "by hand"),
        (HELD, HELD.replace("test_only", "only")),
    ],
)
def test_it_notices_a_test_that_is_not_there(old: str, new: str) -> None:
    assert missing_tests(PAGE.replace(old, new))
