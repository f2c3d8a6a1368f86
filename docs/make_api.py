"""Writes api.md, beside this file, from the docstrings of impress_learn's public names: `python docs/make_api.py`.

A test holds the page to the docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import impress_learn

PAGE = Path(__file__).with_name("api.md")
GROUPS = {
    "A bank in memory": (
        "load_bank",
        "LoadedBank",
        "LoadedBank.predict",
        "LoadedBank.transform",
        "LoadedBank.module",
        "LoadedBank.accuracy",
        "LoadedBank.logits",
        "LoadedBank.task_weights",
        "LoadedBank.mask_weights",
        "Prediction",
    ),
    "Learning tasks": (
        "add_tasks",
        "add_dataset",
        "update_task",
        "discover_tasks",
        "TaskTraining",
        "Parts",
        "OwnData",
        "Discovery",
    ),
    "Making banks": ("create_bank", "extend_bank", "Network", "Masks", "MaskTraining"),
    "Measuring, answering, exporting": ("evaluate", "infer", "export_weights", "report_bank"),
    "References, progress, processes": ("group_references", "parse_reference", "Reference", "Progress", "Workers"),
}
OF_THE_FORMAT = ("Bank", "ImpressError", "open_bank")
"""Names of impress_format, which python.md has."""

_HEAD = """# API

Made from the docstrings by `python docs/make_api.py`; a test holds the page to them. All names are those of
`impress_learn`: `import impress_learn` imports nothing else, and torch comes with the first name that needs it. `Bank`,
`open_bank` and `ImpressError`, the base of all errors, are those of `impress_format`
([python.md](python.md#a-bank-without-torch)). [python.md](python.md) shows them at work.
"""
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example):$", flags=re.MULTILINE)
_ENTRY = re.compile(r"^([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*): ", flags=re.MULTILINE)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [entry(name) for name in names]
    return "\n".join(parts)


def entry(name: str) -> str:
    """What a name's docstring says, as Markdown."""
    documented: Any = impress_learn
    for part in name.split("."):
        documented = getattr(documented, part)
    text = inspect.getdoc(documented) or ""
    words, *sections = _SECTION.split(text)
    lines = [f"### {name}\n"]
    if inspect.isfunction(documented):
        lines.append(f"```python\n{signature(name, documented)}\n```\n")
    lines.append(_flowing(words) + "\n")
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        content = inspect.cleandoc("\n" + body)
        if title == "Example":
            lines.append(f"```python\n{content}\n```\n")
        else:
            lines.append(f"**{title}**\n\n{_listed(content)}\n")
    return "\n".join(lines)


def signature(name: str, function: Any) -> str:
    """How a function is called, one line, or a line a parameter where that is too long."""
    words, starred = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        default = "" if parameter.default is parameter.empty else f" = {_shown(parameter.default)}"
        words.append(f"{parameter.name}: {parameter.annotation}{default}")
    returned = inspect.signature(function).return_annotation
    called = name.replace("LoadedBank.", "loaded.")
    line = f"{called}({', '.join(words)}) -> {returned}"
    return (
        line if len(line) <= 100 else "\n".join([f"{called}(", *(f"    {word}," for word in words), f") -> {returned}"])
    )


def _shown(value: object) -> str:
    """A default; of a record what differs from its own defaults."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    usual = type(value)()
    own = [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != getattr(usual, field.name)
    ]
    return f"{type(value).__name__}({', '.join(own)})"


def _listed(content: str) -> str:
    """Entries as a list; text that has none as it is."""
    if not _ENTRY.match(content):
        return _flowing(content)
    entries = re.split(r"\n(?=\S)", content)
    return "\n".join("- " + _ENTRY.sub(_bold, re.sub(r"\n\s*", " ", one), count=1) for one in entries)


def _bold(found: re.Match[str]) -> str:
    return ", ".join(f"`{name}`" for name in found[1].split(", ")) + ": "


def _flowing(text: str) -> str:
    """Paragraphs, each one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
