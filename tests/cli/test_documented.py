"""Every command and every option is in docs/cli.md or in its own help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from commandline import Impress
from PIL import Image
from safetensors.torch import save_file

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = {
    "bank": ("create", "extend", "show", "pack", "upgrade", "verify"),
    "task": ("add", "update", "discover", "list", "show", "remove", "export", "import"),
    "zoo": ("list", "search", "show", "pull", "push", "verify"),
    "weights": ("convert", "add"),
    "eval": (),
    "infer": (),
    "stats": (),
    "report": (),
    "reproduce": (),
    "export": (),
    "streams": (),
    "doctor": (),
}


def listed(help_text: str) -> set[str]:
    """Commands that a help page lists."""
    _, _, commands = help_text.partition("Commands")
    return set(re.findall(r"^│ (\w+)", commands, flags=re.MULTILINE))


def test_help_lists_exactly_the_commands_there_are(impress: Impress) -> None:
    assert listed(impress("--help").out) == set(COMMANDS)
    for group, commands in COMMANDS.items():
        assert listed(impress(group, "--help").out) == set(commands)


@pytest.mark.parametrize("command", [f"{g} {c}".strip() for g, cs in COMMANDS.items() for c in (cs or ("",))])
def test_every_command_is_documented_and_explains_each_option(impress: Impress, command: str) -> None:
    group, _, name = command.partition(" ")
    documented = (DOCS / "cli.md").read_text()
    assert f"impress {command}" in documented or re.search(rf"impress {group} [^|]*{name} BANK", documented)
    text = impress(*command.split(), "--help").out
    assert "--json" in text
    for option in re.findall(r"^│ (--[\w-]+) +(.*)│$", text, flags=re.MULTILINE):
        assert len(option[1].strip()) > 10, option


def test_the_whole_job_of_the_python_page_runs(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), flags=re.DOTALL)[-1]
    assert len(code.splitlines()) <= 10
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rotated-digits-60") == 2


def readme_blocks() -> list[str]:
    """The Python of the README: of photos, and of a random network."""
    found: list[str] = re.findall(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), flags=re.DOTALL)
    return found


def test_the_readme_begins_with_photos_in_a_dozen_lines(tmp_path: Path) -> None:
    """As it stands, but for a small network with weights that are at hand."""
    code, _ = readme_blocks()
    assert len(code.splitlines()) <= 12
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    colours = {"flowers": ("rose", "tulip"), "food": ("bread", "soup"), "pets": ("cat", "dog")}
    for number, (task, classes) in enumerate(colours.items()):
        for which, name in enumerate(classes):
            folder = tmp_path / task / name
            folder.mkdir(parents=True)
            for image in range(10):
                Image.new("RGB", (40, 40), (200 * which, 20 * image, 90 * number)).save(folder / f"{image}.png")
    Image.new("RGB", (40, 40), (200, 30, 180)).save(tmp_path / "someone.jpg")
    for old, new in (("timm:efficientnet_lite0", "timm:test_efficientnet"), ("timm:ra_in1k", weights.name)):
        assert old in code
        code = code.replace(old, new)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() in {"cat", "dog"}, done.stderr


def test_the_python_of_the_readme_runs(bank: Path) -> None:
    _, code = readme_blocks()
    code = code.replace("build/demo.impress", str(bank)).replace("rotated-digits-15", "rotated-digits-60")
    done = subprocess.run(
        [sys.executable, "-c", code + "print(tuple(logits.shape))"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(1, 10)\n", done.stderr
