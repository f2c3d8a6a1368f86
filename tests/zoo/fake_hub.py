"""As much of the Hub as the zoo uses: revisions, files, commits. One repository, one branch."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        hub = self.server
        if self._refuse():
            return
        path = unquote(urlsplit(self.path).path)
        revision = path.removeprefix(f"/api/models/{hub.repo}/revision/")
        if revision == path:
            if path.startswith("/api/"):
                self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            else:
                self._file(body=True)
        elif revision not in ("main", *hub.commits):
            self._answer(404, {"error": "Invalid rev"}, {"X-Error-Code": "RevisionNotFound"})
        else:
            sha = hub.head if revision == "main" else revision
            files = hub.commits[sha]
            siblings = [{"rfilename": name, "size": len(body)} for name, body in files.items()]
            self._answer(200, {"_id": "1", "id": hub.repo, "sha": sha, "siblings": siblings, "tags": []})

    def do_POST(self) -> None:
        hub = self.server
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refuse():
            return
        path = urlsplit(self.path).path
        if path == f"/api/models/{hub.repo}/preupload/main":
            files = json.loads(content)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer(200, {"files": modes})
        elif path == f"/api/models/{hub.repo}/commit/main":
            with hub.lock:
                self._commit([json.loads(line) for line in content.splitlines()])
        else:
            self._answer(404, {"error": "not found"})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        hub = self.server
        if hub.before_commit:
            hub.before_commit.pop(0)()
        header = lines[0]["value"]
        if header.get("parentCommit") != hub.head:
            self._answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        files = dict(hub.commits[hub.head])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        sha = hub.add_commit(files)
        hub.pushes.append([line["value"]["path"] for line in lines[1:]])
        url = f"{hub.url}/{hub.repo}/commit/{sha}"
        self._answer(200, {"commitUrl": url, "commitOid": sha, "success": True})

    def _file(self, *, body: bool) -> None:
        hub = self.server
        path = unquote(urlsplit(self.path).path)
        sha, _, name = path.removeprefix(f"/{hub.repo}/resolve/").partition("/")
        hub.asked.append((sha, name, self.headers.get("Authorization")))
        sha = hub.head if sha == "main" else sha
        content = hub.commits.get(sha, {}).get(name)
        if content is None:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", sha)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _refuse(self) -> bool:
        if self.server.failures:
            self._answer(self.server.failures.pop(0), {"error": "not now"})
            return True
        return False

    def _answer(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class FakeHub(ThreadingHTTPServer):
    """`commits` by hash; `pushes` the paths of each commit that was pushed; `asked` (commit, file, Authorization)."""

    daemon_threads = True

    def __init__(self, repo: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repo = repo
        self.lock = threading.Lock()
        self.commits: dict[str, dict[str, bytes]] = {}
        self.head = ""
        self.pushes: list[list[str]] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.before_commit: list[Any] = []
        self.failures: list[int] = []
        self.add_commit({".gitattributes": b"*.safetensors filter=lfs\n"})

    def take_the_place_of_the_hub(self, cache: Path, patch: pytest.MonkeyPatch) -> None:
        """Have huggingface_hub ask this one, with its cache in a folder of its own."""
        from huggingface_hub import constants

        patch.setattr(constants, "ENDPOINT", self.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants._HF_DEFAULT_ENDPOINT, self.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add_commit(self, files: dict[str, bytes]) -> str:
        self.head = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[self.head] = files
        return self.head

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
