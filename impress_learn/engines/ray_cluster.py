"""A Ray cluster: reached or said in one line why not, and whether one of its nodes has room for a worker."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TextIO

from impress_format.errors import ClusterError, UsageError

_PATIENCE = 10.0
"""Seconds in which something must answer at an address: Ray itself tries for ten minutes."""
_CLIENT = "ray://"
_LISTENER = "ray_listen_error_messages"
"""The thread of Ray's that prints what raylets say on stdout, whatever `log_to_driver` says."""


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected; a connection that the caller has already is used and stays. No cluster is started,
    and none is stopped.

    Args:
        address: HOST:PORT, or ray://HOST:PORT; None for $RAY_ADDRESS, or the cluster that this machine belongs to.

    Raises:
        UsageError: Ray is not installed.
        ClusterError: there is no cluster, or it lets nobody in, or runs another Ray or Python.
    """
    ray, wanted = reach(address)
    is_ours = not ray.is_initialized()
    with _raylets_kept_from_stdout():
        if is_ours:
            _connect(ray, wanted)
        try:
            yield ray
        finally:
            if is_ours:
                ray.shutdown()


def reach(address: str | None) -> tuple[Any, str]:
    """The module `ray`, and the address that is meant; where one is named, something answers there. Quick: it may be
    asked before anything is computed.

    Args:
        address: as of connected.

    Raises:
        UsageError, ClusterError: as connected.
    """
    ray, wanted = _import_ray(), address or os.environ.get("RAY_ADDRESS") or "auto"
    if not ray.is_initialized() and wanted != "auto":
        _probe(ray, wanted)
    return ray, wanted


def count_places(nodes: Sequence[Mapping[str, Any]], threads: int, gpus: float) -> int:
    """How many workers a cluster has room for, if nobody else is at work there.

    Args:
        nodes: as ray.nodes() gives them.
        threads, gpus: that each worker takes.

    Raises:
        ClusterError: no node has what one worker takes.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    places = sum(
        int(min(node.get("CPU", 0.0) / threads, node.get("GPU", 0.0) / gpus if gpus else float("inf")))
        for node in alive
    )
    if places:
        return places
    demand = f"{threads} CPU{'s' * (threads > 1)}" + (f" and {gpus:g} GPU{'s' * (gpus > 1)}" if gpus else "")
    there = "; ".join(sorted({f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in alive})[:3])
    raise ClusterError(
        f"no node of the cluster has {demand} for a worker (`threads`, `gpus_per_worker`); a node has {there or 'none'}"
    )


def _import_ray() -> Any:
    if "ray" not in sys.modules and _has_token():
        # Read when Ray 2.60 is imported. Where there is a token `ray start` has a cluster ask for it, and who names the
        # address sends none without this. A cluster that asks for none lets in who sends one.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "`engine` ray needs the package ray: pip install 'impresslearn[ray]'. Several processes of this machine "
            "need none: `workers`"
        ) from error
    return ray


def _has_token() -> bool:
    """Whether this user has a token of a cluster, where Ray looks for it."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or (Path(path) if path else Path.home() / ".ray/auth_token").is_file()


def _probe(ray: Any, address: str) -> None:
    """Raises ClusterError where nothing answers at HOST:PORT."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        raise ClusterError(f"`ray_address` {address}: expected HOST:PORT, as `ray start` prints it")
    found = _open(host.strip("[]"), int(port), f"`ray_address` {address}")
    own = ray.util.get_node_ip_address()
    if ip_address(found).is_loopback and not address.startswith(_CLIENT) and own != found:
        # Ray takes its own address in place of a loopback one, and would wait there for ten minutes.
        _open(own, int(port), f"{own}:{port}, which Ray takes for `ray_address` {address}")


def _open(host: str, port: int, what: str) -> str:
    """The IP address that answers at a port.

    Raises:
        ClusterError: nothing does.
    """
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
            return str(connection.getpeername()[0])
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        why = getattr(error, "strerror", None) or str(error)
        raise ClusterError(f"nothing answers at {what} ({why}): is the cluster up, and the port open?") from error


def _connect(ray: Any, address: str) -> None:
    try:
        with _stderr_set_aside():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ray.exceptions.AuthenticationError as error:
        raise ClusterError(_TOKEN.format(address)) from error
    except ConnectionError as error:
        if address == "auto":
            raise ClusterError(
                "this machine belongs to no Ray cluster: give `ray_address` HOST:PORT, or start one with `ray start` "
                "and its option head. Several processes of this machine need none: `workers`"
            ) from error
        raise ClusterError(_TOKEN.format(address)) from error
    except (RuntimeError, ValueError, ImportError) as error:  # ValueError: no client
        text = " ".join(str(error).split())
        if "ray[client]" in text:
            raise ClusterError(
                f"`ray_address` {address} needs Ray's client: pip install 'ray[client]', or give the address without "
                f"{_CLIENT} (port 6379 as a rule), which needs a machine of the cluster's own network"
            ) from error
        if len(versions := _VERSIONS.findall(text)) == 2:
            (ray_there, python_there), (ray_here, python_here) = versions
            raise ClusterError(
                f"the cluster has Ray {ray_there} and Python {python_there}, this process Ray {ray_here} and Python "
                f"{python_here}: have the same in both, the last number of Python's too"
            ) from error
        raise ClusterError(f"{address}: {text[:300]}") from error


@contextmanager
def _stderr_set_aside() -> Iterator[None]:
    """Drop what is written to the descriptor of stderr: a line each second that Ray's own code waits."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_VERSIONS = re.compile(r"Ray: (\S+) Python: (\S+)")
_TOKEN = (
    "{} answers and lets nobody in: if the cluster asks for a token (RAY_AUTH_MODE=token there), put it here into "
    "~/.ray/auth_token or RAY_AUTH_TOKEN (and from Python set RAY_AUTH_MODE=token before Ray is imported); else this "
    "is no port of Ray's GCS"
)


class _WithoutRaylets:
    """A stream that drops what Ray's listening thread writes.

    With `log_to_driver=False`, too, Ray 2.60 prints on stdout that a worker was killed; a JSON document on stdout
    would be none any more. What matters of it is told as a remark.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name == _LISTENER else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _raylets_kept_from_stdout() -> Iterator[None]:
    before = sys.stdout
    wrapped: Any = _WithoutRaylets(before)
    sys.stdout = wrapped
    try:
        yield
    finally:
        if sys.stdout is wrapped:
            sys.stdout = before
