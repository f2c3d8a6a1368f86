"""`impress report`: what it prints, what it refuses, and the page as a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from commandline import Impress, contents
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")


def test_it_prints_what_was_written(impress: Impress, bank: Path, tmp_path: Path) -> None:
    done = impress("report", bank, "a.html", "--json")
    assert done.code == 0, done.err
    page = tmp_path / "a.html"
    assert set(done.json) == {"bank", "file", "bytes", "measured", "seconds"}
    assert (done.json["bank"], done.json["file"]) == (str(bank), "a.html")
    assert done.json["bytes"] == page.stat().st_size < 100_000
    assert done.json["measured"] == 0
    assert done.err == ""
    first = page.read_bytes()
    told = impress("report", bank.name, "a.html")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("a.html: ")
    assert page.read_bytes() == first  # however the path of the bank is written


def test_it_changes_nothing_in_the_bank(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    assert impress("report", bank, "a.html", "--measure").code == 0
    assert contents(bank) == before
    assert impress("bank", "verify", bank).code == 0


def test_what_was_measured_stays_in_the_page(impress: Impress, bank: Path, tmp_path: Path) -> None:
    measured = impress("report", bank, "a.html", "--measure", "--json")
    assert (measured.code, measured.json["measured"]) == (0, 3), measured.err
    page = (tmp_path / "a.html").read_bytes()
    again = impress("report", bank, "a.html", "--json", "--data-dir", "nowhere")
    assert (again.json["measured"], again.json["bytes"]) == (3, len(page))
    assert (tmp_path / "a.html").read_bytes() == page
    impress("task", "remove", bank, "rotated-digits/60")
    changed = impress("report", bank, "a.html", "--json")
    assert (changed.code, changed.json["measured"]) == (0, 0)
    assert "of another state of the bank: left out" in changed.err


def test_another_file_is_not_overwritten(impress: Impress, bank: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    before = contents(tmp_path)
    inside = [(bank / name, 2) for name in ("bank.json", "new.html", "masks/new.html")]
    for file, code in [("mine.html", 1), *inside]:
        refused = impress("report", bank, file)
        assert refused.code == code, file
        assert refused.out == ""
        assert len(refused.err.strip().splitlines()) <= 2
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["report", "a.impress"], 2, "FILE"),
        (["report", "a.impress", ""], 2, "it is empty"),
        (["report", "nothing.impress", "a.html"], 2, "there is no bank at nothing.impress"),
        (["report", "a.impress", "nowhere/a.html"], 1, "cannot write nowhere/a.html"),
        (["report", "a.impress", "."], 1, "is there already"),
    ],
)
def test_what_does_not_work_says_so(
    arguments: list[str], code: int, words: str, impress: Impress, bank: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    ended = impress(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert words in " ".join(ended.err.split())
    assert contents(tmp_path) == before


def test_data_that_are_missing_leave_the_page_as_it_was(impress: Impress, bank: Path, tmp_path: Path) -> None:
    added = impress("task", "add", bank, "rotated-digits/5", "--epochs", 1, "--shots", 2, "--name", "mine")
    assert added.code == 0, added.err
    (tmp_path / "pets").mkdir()
    assert impress("report", bank, "a.html").code == 0
    before = (tmp_path / "a.html").read_bytes()
    (bank / "recogniser.safetensors").write_bytes(b"damaged")
    damaged = impress("report", bank, "a.html", "--measure")
    assert damaged.code == 1
    assert "recogniser.safetensors" in damaged.err
    assert (tmp_path / "a.html").read_bytes() == before


# In a browser


class Asked(BaseHTTPRequestHandler):
    """Gives the files of a folder, and writes down what was asked for."""

    folder: Path
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        content = (self.folder / self.path.lstrip("/")).read_bytes() if self.path.endswith(".html") else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of this folder, and the list of what it is asked for."""
    paths: list[str] = []
    handler = type("Handler", (Asked,), {"folder": tmp_path, "paths": paths})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


def shown(address: str, folder: Path, *, width: int = 1000, dark: bool = False) -> tuple[Image.Image, list[str]]:
    """A page as Chromium draws it, and what it says on its console."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1400",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--screenshot={folder / 'page.png'}", address,
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with Image.open(folder / "page.png") as image:
        return image.convert("RGB"), re.findall(r"CONSOLE.*", done.stderr)


@pytest.mark.slow
@NEEDS_CHROMIUM
@pytest.mark.parametrize(("width", "dark"), [(1000, False), (1000, True), (500, False)])
def test_a_browser_shows_it_asks_for_nothing_and_has_nothing_to_complain_about(
    width: int, dark: bool, impress: Impress, bank: Path, served: tuple[str, list[str]], tmp_path: Path
) -> None:
    assert impress("report", bank, "a.html", "--measure").code == 0
    address, asked = served
    image, console = shown(f"{address}/a.html", tmp_path, width=width, dark=dark)
    assert (asked, console) == (["/a.html"], [])
    paper = image.getpixel((3, 3))
    assert paper == ((22, 24, 27) if dark else (253, 252, 249))
    colours = image.getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 60  # shades of masks


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_what_a_stranger_would_smuggle_in_neither_runs_nor_asks(
    impress: Impress, bank: Path, served: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Also where a name were not escaped: the page's policy stands before it."""
    assert impress("report", bank, "a.html").code == 0
    page = (tmp_path / "a.html").read_text()
    evil = '<script>document.body.innerHTML = ""</script><img src="/evil.png"><link rel="stylesheet" href="/evil.css">'
    (tmp_path / "b.html").write_text(page.replace("</header>", f"</header>{evil}"))
    address, asked = served
    image, console = shown(f"{address}/b.html", tmp_path)
    assert asked == ["/b.html"]
    assert len(console) == 3
    assert all("Content Security Policy" in line for line in console)
    colours = image.getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 60


def test_the_measured_block_is_json_that_others_can_read(impress: Impress, bank: Path, tmp_path: Path) -> None:
    impress("report", bank, "a.html", "--measure")
    (block,) = re.findall(
        r'<script type="application/json" id="measured">(.*?)</script>', (tmp_path / "a.html").read_text()
    )
    kept = json.loads(block)
    assert kept["version"] == 1
    assert [one["task"] for one in kept["controls"]] == [
        "rotated-digits/60",
        "rotated-digits/180",
        "rotated-digits/300",
    ]
