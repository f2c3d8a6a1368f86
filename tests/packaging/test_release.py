"""What `make release` reads and writes; that it installs and runs is for `make release` itself to try."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import impress_format

ROOT = Path(__file__).parents[2]
METADATA = (ROOT / "pyproject.toml").read_text()


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import release

    return release


def test_the_version_is_that_of_the_package(release: ModuleType) -> None:
    source = (ROOT / "impress_format" / "__init__.py").read_text()
    assert release.version_of(source) == impress_format.__version__


def test_the_changelog_gets_version_and_day(release: ModuleType) -> None:
    text = "# Changes\n\n## Unreleased (1.2.0)\n\n- New.\n\n## 1.1.0 (2026-01-01)\n"
    released = release.with_version(text, "1.2.0", "2026-12-01")
    assert released == text.replace("## Unreleased (1.2.0)", "## 1.2.0 (2026-12-01)")


@pytest.mark.parametrize("version", ["1.1.0", "1.2"])
def test_a_changelog_of_another_version_is_refused(release: ModuleType, version: str) -> None:
    with pytest.raises(SystemExit, match="expected one heading"):
        release.with_version("## Unreleased (1.2.0)\n", version, "2026-12-01")


def test_the_pythons_that_are_tried_are_those_that_are_claimed(release: ModuleType) -> None:
    assert "3.10" in release.claimed(METADATA)
    assert release.claimed(METADATA) <= {f"3.{minor}" for minor in release.MINORS}


def test_the_oldest_releases_are_those_of_the_metadata(release: ModuleType) -> None:
    oldest = release.oldest(METADATA)
    assert "torch==2.6" in oldest
    assert len(oldest) == METADATA.split("\ndependencies = [")[1].split("\n]")[0].count(">=")


def test_a_claimed_python_that_is_not_here_ends_it_before_anything_changes(
    release: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "git", lambda *_: "")
    monkeypatch.setattr(release, "found_here", dict)
    monkeypatch.setattr(release.try_package, "build", lambda _: pytest.fail("it was built"))
    with pytest.raises(SystemExit, match=r"the metadata claim Python 3\.10, "):
        release.main([])


def test_what_is_not_committed_is_not_released(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "git", lambda *arguments: " M README.md" if arguments[0] == "status" else "")
    with pytest.raises(SystemExit, match="not committed"):
        release.main([])
