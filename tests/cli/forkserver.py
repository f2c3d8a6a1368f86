"""Runs `impress` in forks of one process that has torch imported, and lets file operations fail or kill it.

Reads a list of requests a line from stdin, runs them at once, and answers with a line of their exit statuses. Started
by forked.py, as a program of its own so that no thread of pytest is forked. A command takes a tenth of a second so, and
not the two that importing torch takes.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PRELOADED = ("impress_learn.jobs.making", "impress_learn.tasks.learn", "torchvision.transforms.functional")
"""Not huggingface_hub, nor timm that imports it: it reads the environment then, and each command has its own."""
PATCHED = ("fsync", "link", "replace", "rename", "unlink", "mkdir")


class Faults:
    """Counts the file operations below a folder; at number `at` (from 1) it kills the process or raises."""

    def __init__(self, folder: str, at: int, action: str, log: Path) -> None:
        self.folder, self.at, self.action, self.log = folder, at, action, log
        self.count = 0

    def install(self) -> None:
        for name in PATCHED:
            setattr(os, name, self._counted(name, getattr(os, name)))
        opened = builtins.open

        def open_counted(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not any(letter in mode for letter in "wxa+") or not self._is_below(file):
                return opened(file, mode, *args, **kwargs)
            self._reach("open")
            return Written(opened(file, mode, *args, **kwargs), self)

        builtins.open = open_counted

    def _counted(self, name: str, original: Any) -> Any:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if name == "fsync" or self._is_below(args[0]):
                self._reach(name)
            return original(*args, **kwargs)

        return operation

    def _is_below(self, file: object) -> bool:
        return isinstance(file, (str, os.PathLike)) and str(Path.cwd() / file).startswith(self.folder)

    def _reach(self, name: str) -> None:
        self.count += 1
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{name}\n".encode())
        os.close(descriptor)
        if self.count == self.at:
            self.fail()

    def fail(self) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(getattr(errno, self.action), os.strerror(getattr(errno, self.action)))


class Written:
    """A file whose writes are counted, and fail after half of the bytes."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def write(self, content: bytes) -> int:
        if self._faults.count + 1 == self._faults.at:
            self._file.write(content[: len(content) // 2])
            self._file.flush()
        self._faults._reach("write")
        return int(self._file.write(content))

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def child(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None  # that of the environment
    signal.alarm(request["timeout_s"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    if encoding := request["env"].get("PYTHONIOENCODING"):  # which Python reads when it starts
        name, _, errors = encoding.partition(":")
        for printed, otherwise in ((sys.stdout, errors or "strict"), (sys.stderr, "backslashreplace")):
            assert isinstance(printed, io.TextIOWrapper)
            printed.reconfigure(encoding=name, errors=otherwise)
    if not request["links"]:
        _take_links_away()
    if request["log"] is not None:
        # The log lies beside the folder, so that writing it is no operation of the run.
        Faults(request["cwd"], request["at"], request["action"], Path(request["log"])).install()
    sys.argv = ["impress", *request["arguments"]]
    from impress_cli.app import main

    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _take_links_away() -> None:
    from impress_format.disk import files

    def unsupported(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    os.link = unsupported
    files._rename_no_replace = unsupported


def serve() -> None:
    import torch

    for module in PRELOADED:
        importlib.import_module(module)
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        sys.argv = ["impress", "streams"]
        importlib.import_module("impress_cli.app").main()  # what a first command imports
    for line in sys.stdin:
        requests = json.loads(line)
        processes = [start(request) for request in requests]
        if requests[0]["kill_after_s"] is not None:
            time.sleep(requests[0]["kill_after_s"])
            os.kill(processes[0], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


def start(request: dict[str, Any]) -> int:
    process = os.fork()
    if process == 0:
        child(request)
    return process


if __name__ == "__main__":
    serve()
