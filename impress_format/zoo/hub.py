"""A zoo in a repository of the Hugging Face Hub, `hf://OWNER/NAME[@REVISION]`, laid out exactly as in a folder.

A revision is resolved to a commit once, and everything is read at that commit; so an index and the files it names
always belong together, whoever pushes meanwhile. `huggingface_hub` does the talking: its cache, token, proxies,
HF_ENDPOINT and HF_HUB_OFFLINE hold here as everywhere.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from impress_format.errors import UsageError, ZooError
from impress_format.zoo.hub_errors import check_endpoint, explain, http_status, may_recover
from impress_format.zoo.index import INDEX
from impress_format.zoo.local import copy_file, read_small, regular_size

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
        found = regular_size(cached)
        if found != size:
            raise ZooError(f"{self.label}: {path} has {found or 0:,} bytes, the index says {size:,}")
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
        ZooError: no such repository or revision, no access, no network, offline and not in the cache, or a setting
            (HF_ENDPOINT, HF_TOKEN, a proxy) that cannot work.
        StorageError: the cache of huggingface_hub cannot be read or written.
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


def check_online(address: str) -> None:
    """Refuse to push offline: what the cache has is no help there.

    Raises:
        ZooError: HF_HUB_OFFLINE is set.
    """
    if _offline():
        raise ZooError(f"{address}: pushing needs the network, and HF_HUB_OFFLINE is set: unset it and push again")


def commit_files(source: HubSource, add: Mapping[str, Path | bytes], delete: Sequence[str], *, message: str) -> str:
    """Put files into the repository in one commit on top of `source.commit`, and return its address.

    Raises:
        PushedMeanwhile: another commit came between; read anew and try again.
        ZooError: no access, no network, offline.
        UsageError: the revision is a commit, not a branch.
        StorageError: a file to push cannot be read.
    """
    check_online(f"hf://{source.repo}")
    if _COMMIT.fullmatch(source.revision):
        raise UsageError(f"hf://{source.repo}@{source.revision[:12]}…: a commit cannot be changed; name a branch")
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
    if (endpoint := os.environ.get("HF_ENDPOINT")) is not None:
        check_endpoint(endpoint)  # before the import, which fails over some nonsense
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _call(repo: str, function: Callable[[], T]) -> T:
    """What `function` returns; retried where the Hub or the network may recover.

    Raises:
        ZooError: it does not, or the answer is final.
        StorageError: the disk refused.
    """
    from huggingface_hub import constants

    for wait in (*_WAITS_S, None):
        try:
            return function()
        # Some errors of huggingface_hub are plain ValueErrors; whatever it raises is about the Hub.
        except Exception as error:
            if http_status(error) in (409, 412):
                raise PushedMeanwhile(f"hf://{repo}: somebody else pushed meanwhile; run the command again") from error
            offline = _offline()
            if wait is None or offline or not may_recover(error):
                raise explain(repo, error, endpoint=constants.ENDPOINT, offline=offline) from error
            time.sleep(wait)
    raise AssertionError("the last wait is None")
