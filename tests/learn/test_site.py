"""The site of the documentation is built whole, without a network and without a broken link (`make docs`)."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT_NETWORK = """
import runpy, socket, sys

def refuse(*_):
    raise OSError("the site is built without a network")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
runpy.run_module("mkdocs", run_name="__main__", alter_sys=True)
"""


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_NETWORK, "build", "--strict", "--site-dir", str(folder), *options]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder, "--config-file", ".mkdocs.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page.read_text())))


def test_the_api_pages_say_what_the_docstrings_say(site: Path) -> None:
    text = text_of(site / "api.html")
    assert "Rebuild the backbone and read all masks, into memory." in text
    assert "an opened bank, or its folder." in text
    assert "the rebuilt backbone has another digest." in text
    assert "fit : MaskTraining = MaskTraining ()" in text


def test_the_front_page_is_the_readme(site: Path) -> None:
    heading = re.search(r"^## (.*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert heading is not None
    assert heading[1] in text_of(site / "index.html")


def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    for page in site.rglob("*.html"):
        asked = re.findall(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=.?(https?://[^\s\"'>]*)", page.read_text())
        assert asked == [], page.name


def test_every_page_of_the_docs_is_in_the_contents(site: Path) -> None:
    contents = (ROOT / ".mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}\n" in contents


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[there](nowhere.md)\n")
    config = (ROOT / ".mkdocs.yml").read_text()
    config = config.split("hooks:")[0] + "validation:" + config.split("validation:")[1].split("nav:")[0]
    (tmp_path / ".mkdocs.yml").write_text(config)
    done = build(tmp_path / "site", "--config-file", str(tmp_path / ".mkdocs.yml"))
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr
