"""What MkDocs does beside building pages (.mkdocs.yml): README.md is the first page; links out of docs/ become text."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

README = Path(__file__).parents[1] / "README.md"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page `index.md`: README.md, whose links begin at the folder above."""
    text = _LINK.sub(lambda link: _moved(link, "docs/"), README.read_text())
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Name files that the site does not hold, in place of a link to them."""
    folder = posixpath.dirname(page.file.src_uri)
    return _LINK.sub(lambda link: _inside(link, folder), markdown)


def _moved(link: re.Match[str], prefix: str) -> str:
    image, text, target, anchor = link.groups(default="")
    if re.match(r"[a-z]+:", target) or not target:
        return link[0]
    if target.startswith(prefix):
        return f"{image}[{text}]({target.removeprefix(prefix)}{anchor})"
    return f"{image}[{text}](../{target}{anchor})"


def _inside(link: re.Match[str], folder: str) -> str:
    image, text, target, _ = link.groups(default="")
    if re.match(r"[a-z]+:", target) or not target:
        return link[0]
    path = posixpath.normpath(posixpath.join(folder, target))
    outside = path.startswith("..") or path.endswith((".py", ".csv"))
    return f"{text} (`{path.removeprefix('../')}`)" if outside and not image else link[0]
