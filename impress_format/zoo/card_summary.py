"""What the index takes from a model card: Markdown with the front matter the Hugging Face Hub reads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from impress_format.errors import UsageError

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class CardSummary:
    """What the index takes from a card."""

    title: str
    description: str
    tags: tuple[str, ...]


def read_card(text: str) -> CardSummary:
    """Title (first heading), description (first paragraph after it) and tags (of the front matter) of a card.

    Raises:
        UsageError: no front matter, or no heading.
    """
    match = _FRONT_MATTER.match(text)
    if match is None:
        raise UsageError("a model card begins with front matter: lines between two lines of ---")
    body = text[match.end() :]
    heading = re.search(r"^# +(.+?)\s*$", body, flags=re.MULTILINE)
    if heading is None:
        raise UsageError("a model card has a title: a line that begins with `# `")
    paragraph = body[heading.end() :].strip().split("\n\n")[0]
    description = "" if paragraph.startswith(("#", "|", "```")) else " ".join(paragraph.split())
    return CardSummary(title=heading[1], description=description[:1000], tags=_tags(match[1]))


def _tags(front_matter: str) -> tuple[str, ...]:
    """`tags:` as a list of `- tag` lines or as `[a, b]`: the two ways cards write it. Not a parser of YAML."""
    match = re.search(r"^tags:[ \t]*(\[.*?\])?[ \t]*\r?$((?:\r?\n[ \t]*- .*)*)", front_matter, flags=re.MULTILINE)
    if match is None:
        return ()
    items = match[1].strip("[]").split(",") if match[1] else re.findall(r"^\s*- (.*)$", match[2], flags=re.MULTILINE)
    return tuple(tag for item in items if (tag := item.strip().strip("'\"")))
