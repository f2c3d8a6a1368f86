"""Weights on the Hub: a repository at a revision, what of it lies in huggingface_hub's cache, what is downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from impress_format.errors import DataError, UsageError

HUB_FILE = "model.safetensors"
_REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]{0,199}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


def split_revision(address: str) -> tuple[str, str | None]:
    """`NAME@REVISION` -> both, None where there is no revision.

    Raises:
        UsageError: no revision may be called so.
    """
    name, at, revision = address.partition("@")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"`weights` {address}: {revision!r} is no revision; expected a commit, a tag or a branch")
    return name, revision if at else None


def check_repository(name: str) -> str:
    """The name of a repository, if one may have it.

    Raises:
        UsageError: it may not.
    """
    if not _REPOSITORY.fullmatch(name):
        raise UsageError(f"`weights` hf-hub:{name}: expected hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION")
    return name


def commit_of(path: Path) -> str | None:
    """The commit that a file in the cache is of: its folder is called so."""
    return path.parent.name if _COMMIT.fullmatch(path.parent.name) else None


def cached_files(repository: str, first: str | None) -> Iterator[Path]:
    """The file in each snapshot of a repository that lies in the cache, each content once.

    Args:
        first: the commit whose snapshot comes first.
    """
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE) / "--".join(("models", *repository.split("/"))) / "snapshots"
    seen: set[Path] = set()
    try:
        commits = sorted(snapshots.iterdir(), key=lambda path: (path.name != first, path.name))
    except OSError:  # there is none, or it may not be looked at: then it has to be downloaded
        return
    for commit in commits:
        path = commit / HUB_FILE
        if path.is_file() and (content := path.resolve()) not in seen:
            seen.add(content)
            yield path


def download(repository: str, revision: str | None) -> Path:
    """The file in the cache of huggingface_hub, downloaded if it is not there and HF_HUB_OFFLINE is not set.

    Args:
        revision: a commit, tag or branch; None for the newest.

    Raises:
        DataError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, HUB_FILE, revision=revision))
    except Exception as error:  # of several HTTP clients, each with errors of its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        revision_text = f" at {revision}" if revision else ""
        raise DataError(
            f"{HUB_FILE} of https://huggingface.co/{repository}{revision_text} is not in the cache of huggingface_hub "
            "and could "
            f"not be downloaded ({reason[:200]})"
        ) from error


def timm_repository(full: str) -> str:
    """The repository of the weights that timm calls NAME.TAG."""
    import timm

    config = timm.get_pretrained_cfg(full)
    return str(getattr(config, "hf_hub_id", None) or f"timm/{full}")
