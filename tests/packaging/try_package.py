"""The wheel and the sdist as a stranger gets them: built, installed into an empty environment, and used there.

    python tests/packaging/try_package.py [PYTHON]

`make package` runs it. The wheel is installed with all it needs, which takes most of the time; the sdist is built into
a wheel once more and must hold the same files.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ("impress_learn/streams/digits.npz", *(f"impress_{name}/py.typed" for name in ("cli", "format", "learn")))
JOB = (
    ("bank", "create", "t.impress", "rotated-digits/0:180:90", "--epochs", "2", "--json"),
    ("task", "add", "t.impress", "rotated-digits/45", "--epochs", "2", "--json"),
    ("bank", "verify", "t.impress", "--json"),
    ("eval", "t.impress", "--json"),
    ("stats", "t.impress", "--json"),
    ("streams", "--json"),
    ("doctor", "--json"),
)


def main(python: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel, _ = build(Path(folder) / "dist")
        print(use(python, wheel))


def build(folder: Path) -> tuple[Path, Path]:
    """Wheel and sdist in a folder, which hold the same files and all that are needed."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", here / "again", unpacked(sdist, here), cwd=here)
        (again,) = (here / "again").glob("*.whl")
        files = names(wheel)
        assert files == names(again), files ^ names(again)
    assert files >= set(NEEDED), set(NEEDED) - files
    assert not any(file.startswith("tests") for file in files)
    return wheel, sdist


def use(python: str, wheel: Path, releases: Sequence[str] = ()) -> str:
    """Install the wheel into an empty environment, run commands there, and say what they ran on.

    Args:
        releases: of what it needs, as `torch==2.6.0`; none for the newest.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        run(python, "-m", "venv", here / "venv", cwd=here)
        environment = here / "venv" / "bin"
        run(environment / "python", "-m", "pip", "install", "--quiet", "--no-compile",
            "--disable-pip-version-check", wheel, *releases, cwd=here)  # fmt: skip
        told = run(environment / "impress", "--version", cwd=here).strip()
        for command in JOB:
            json.loads(run(environment / "impress", *command, cwd=here))
        where = run(environment / "python", "-c", "import impress_learn; print(impress_learn.__file__)", cwd=here)
        assert where.startswith(str(here)), where
        torch = run(environment / "python", "-c", "import torch; print(torch.__version__)", cwd=here).strip()
    version = run(python, "--version", cwd=ROOT).strip()
    return f"{version}, torch {torch}: {told}, {len(JOB)} commands OK, {time.monotonic() - started:.0f} s"


def unpacked(sdist: Path, folder: Path) -> Path:
    run("tar", "xzf", sdist, cwd=folder)
    return folder / sdist.name.removesuffix(".tar.gz")


def names(wheel: Path) -> set[str]:
    """Files of a wheel; its own metadata is another for another build."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def run(*command: object, cwd: Path) -> str:
    """What a command prints; its errors are shown where it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else sys.executable)
