"""A zoo in a repository of the Hugging Face Hub, `hf://OWNER/NAME[@REVISION]`, laid out exactly as in a folder.

A revision is resolved to a commit once, and everything is read at that commit; so an index and the files it names
always belong together, whoever pushes meanwhile. `huggingface_hub` does the talking: its cache, token, proxies,
HF_ENDPOINT and HF_HUB_OFFLINE hold here as everywhere.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from impress_format.errors import UsageError, ZooError
from impress_format.zoo.index import INDEX
from impress_format.zoo.sources import copy_file, read_small

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_ADDRESS = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,200}))?/?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_DEFAULT_REVISION = "main"
_WAITS_S = (1.0, 2.0, 4.0)
_TIMEOUT_S = 30.0

T = TypeVar("T")


class PushedMeanwhile(ZooError):
    """The branch has another head than the one that was read."""


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A repository at one commit. `sizes` has the bytes of its files by path; None offline, where only the cache is."""

    repo: str
    revision: str
    commit: str
    sizes: Mapping[str, int | None] | None

    @property
    def label(self) -> str:
        return f"hf://{self.repo}@{self.commit[:12]}"

    def read(self, path: str, limit: int) -> bytes | None:
        if self.sizes is not None:
            if path not in self.sizes:
                return None
            self._check_size(path, limit)
        return read_small(self._cached(path), limit)

    def fetch(self, path: str, part: Path, size: int) -> None:
        if self.sizes is not None:
            if path not in self.sizes:
                raise ZooError(f"{self.label}: {path} is not there, the index names it")
            self._check_size(path, size)
        cached = self._cached(path)
        found = cached.stat().st_size
        if found != size:
            raise ZooError(f"{self.label}: {path} has {found:,} bytes, the index says {size:,}")
        copy_file(cached, part)

    def _check_size(self, path: str, limit: int) -> None:
        found = (self.sizes or {}).get(path)
        if found is not None and found > limit:
            raise ZooError(f"{self.label}: {path} has {found:,} bytes, expected at most {limit:,}")

    def _cached(self, path: str) -> Path:
        """The file in the cache of huggingface_hub, downloaded if it is not there; a link there, so resolved."""
        return Path(_call(self.repo, lambda: _api().hf_hub_download(self.repo, path, revision=self.commit))).resolve()


def open_hub(address: str) -> HubSource:
    """The repository at the commit that its revision names now; offline, at the one in the cache.

    Raises:
        UsageError: not an address of this form.
        ZooError: no such repository or revision, no access, no network, or offline and not in the cache.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"{address}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    repo, revision = match["repo"], match["revision"] or _DEFAULT_REVISION
    if _offline():
        cached = _call(repo, lambda: _api().hf_hub_download(repo, INDEX, revision=revision, local_files_only=True))
        return HubSource(repo=repo, revision=revision, commit=Path(cached).parent.name, sizes=None)
    info = _call(repo, lambda: _api().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S))
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ZooError(f"hf://{repo}: the Hub names no commit for {revision}")
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    return HubSource(repo=repo, revision=revision, commit=str(info.sha), sizes=sizes)


def commit_files(source: HubSource, add: Mapping[str, Path | bytes], delete: Sequence[str], *, message: str) -> str:
    """Put files into the repository in one commit on top of `source.commit`, and return its address.

    Raises:
        PushedMeanwhile: another commit came between; read anew and try again.
        ZooError: no access, no network, offline.
        UsageError: the revision is a commit, not a branch.
    """
    if _COMMIT.fullmatch(source.revision):
        raise UsageError(f"hf://{source.repo}@{source.revision[:12]}…: a commit cannot be changed; name a branch")
    if _offline():
        raise ZooError("HF_HUB_OFFLINE is set: unset it to push to the Hub")
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    def commit() -> str:
        # Made anew for each try: the library notes in them what it has uploaded.
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(
                CommitOperationAdd(path, str(content) if isinstance(content, Path) else content)
                for path, content in add.items()
            ),
            *(CommitOperationDelete(path, is_folder=False) for path in delete),
        ]
        done = _api().create_commit(
            source.repo, operations, commit_message=message, revision=source.revision, parent_commit=source.commit
        )
        return str(done.commit_url)

    return _call(source.repo, commit)


def _api() -> HfApi:
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    return HfApi(library_name="impress")


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _call(repo: str, function: Callable[[], T]) -> T:
    """What `function` returns; tried again where the Hub or the network may recover.

    Raises:
        ZooError: it does not, or the answer is final.
    """
    for wait in (*_WAITS_S, None):
        try:
            return function()
        # The errors of huggingface_hub and of the HTTP client under it change names from release to release, and
        # some are plain ValueErrors; whatever it raises is about the Hub.
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (409, 412):
                raise PushedMeanwhile(f"hf://{repo}: another push came between; give the command again") from error
            final = _offline() or (status is not None and status < 500 and status not in (408, 429))
            if final or wait is None:
                raise ZooError(_explain(repo, error, status)) from error
            time.sleep(wait)
    raise AssertionError("the last wait is None")


def _explain(repo: str, error: Exception, status: int | None) -> str:
    if _offline():
        return f"hf://{repo}: HF_HUB_OFFLINE is set and the file is not in the cache of huggingface_hub: go online once"
    kind = type(error).__name__
    if status in (401, 403) or kind == "GatedRepoError":
        return f"hf://{repo}: no access (HTTP {status}): none, or private; use `hf auth login` or HF_TOKEN"
    if kind == "RevisionNotFoundError":
        return f"hf://{repo}: has no such revision"
    if status == 404:
        return f"hf://{repo}: not found; `hf repos create {repo}` makes a repository to push to"
    first = " ".join(str(error).split())[:200] or kind
    return f"hf://{repo}: " + (f"the Hub answered {status}" if status else f"cannot be reached ({first})")
