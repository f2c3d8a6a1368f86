"""A release, made and tried on this machine: `make release`. Nothing is uploaded.

    python tests/packaging/release.py [PYTHON ...]        default: every Python from 3.10 that is found here

Wheel and sdist are built into `dist/`, installed into empty environments and used there: under every Python with the
newest releases of what they need, and under the first one with the oldest that pyproject.toml names. Then the changelog
gets the version and the day, and the commit a tag. A Python that the metadata claims and that is not found here ends
it, before anything is changed.
"""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import try_package

ROOT = try_package.ROOT
CLASSIFIER = "Programming Language :: Python :: "
MINORS = range(10, 15)


def main(pythons: Sequence[str]) -> None:
    version = version_of((ROOT / "impress_format" / "__init__.py").read_text())
    metadata = (ROOT / "pyproject.toml").read_text()
    changelog = ROOT / "CHANGELOG.md"
    if git("status", "--porcelain"):
        raise SystemExit("there are changes that are not committed")
    if git("tag", "--list", f"v{version}"):
        raise SystemExit(f"v{version} is tagged already: set another `__version__` in impress_format/__init__.py")
    released = with_version(changelog.read_text(), version, datetime.date.today().isoformat())
    found = {minor_of(python): python for python in pythons} if pythons else found_here()
    if lacking := claimed(metadata) - set(found):
        raise SystemExit(f"the metadata claim Python {', '.join(sorted(lacking))}, which is not found here")

    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    wheel, sdist = try_package.build(dist)
    for python in found.values():
        print(try_package.use(python, wheel), flush=True)
    print("oldest:", try_package.use(next(iter(found.values())), wheel, oldest(metadata)), flush=True)

    changelog.write_text(released)
    git("commit", "--quiet", "--message", f"Release {version}", str(changelog))
    git("tag", "--annotate", f"v{version}", "--message", f"impress {version}")
    print(f"v{version} is tagged; dist/ has {wheel.name} and {sdist.name}. Nothing was uploaded.")


def version_of(source: str) -> str:
    (version,) = re.findall(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    return str(version)


def with_version(changelog: str, version: str, day: str) -> str:
    """The changelog, in which what was not released is this version."""
    heading = f"## Unreleased ({version})\n"
    if changelog.count(heading) != 1:
        raise SystemExit(f"CHANGELOG.md: expected one heading {heading.strip()!r}")
    return changelog.replace(heading, f"## {version} ({day})\n")


def claimed(metadata: str) -> set[str]:
    """Python releases that pyproject.toml's classifiers name: `3.10`."""
    return set(re.findall(rf'"{re.escape(CLASSIFIER)}(3\.\d+)"', metadata))


def oldest(metadata: str) -> list[str]:
    """The least release of each package that pyproject.toml needs, as pip takes it."""
    needed = metadata.split("\ndependencies = [", 1)[1].split("\n]", 1)[0]
    return [f"{name}=={least}" for name, least in re.findall(r'^ *"([\w-]+)>=([\w.]+)"', needed, flags=re.MULTILINE)]


def found_here() -> Mapping[str, str]:
    """By `3.10` the first interpreter of each release on the path or of pyenv."""
    homes = sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin"))
    found = {}
    for minor in MINORS:
        name = f"python3.{minor}"
        places = [shutil.which(name), *(str(home / name) for home in homes if (home / name).exists())]
        working = [place for place in places if place and works(place)]
        if working:
            found[f"3.{minor}"] = working[0]
    missing = [f"3.{minor}" for minor in MINORS if f"3.{minor}" not in found]
    print(f"Python {', '.join(found)} found" + (f", not {', '.join(missing)}" if missing else ""), flush=True)
    return found


def works(python: str) -> bool:
    """Whether an interpreter runs and makes environments; pyenv has names of releases that are not active."""
    return subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0


def minor_of(python: str) -> str:
    return try_package.run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])", cwd=ROOT).strip()


def git(*arguments: str) -> str:
    return try_package.run("git", *arguments, cwd=ROOT).strip()


if __name__ == "__main__":
    main(sys.argv[1:])
