"""A zoo behind https: downloads that resume where they stopped, and end at the byte that the index declares.

Plain `urllib` of the standard library: a few hundred small files need no connection pool, and what matters here,
ranges, limits and retries, is ours to decide anyway. Proxies are those of HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, TypeVar

from impress_format.disk.files import unreadable
from impress_format.errors import StorageError, UsageError, ZooError
from impress_format.zoo.proxy import Proxy, proxy_for

_CHUNK = 1 << 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_AGENT = "impress-zoo/1"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for a server, and how often to ask again.

    `attempts` counts those in a row that brought no new byte; the wait doubles from `wait_s` up to `longest_wait_s`,
    which also caps what a server may ask for with Retry-After. `timeout_s` is the longest silence.
    """

    attempts: int = 5
    wait_s: float = 0.5
    longest_wait_s: float = 30.0
    timeout_s: float = 30.0


class _Interrupted(Exception):
    """Something that a retry may get past."""

    def __init__(self, problem: str, wait_s: float | None = None) -> None:
        super().__init__(problem)
        self.wait_s = wait_s


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as far as a zoo's own address may be: https, or http on this machine from this machine."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urllib.parse.urlsplit(newurl)
        stays = _is_loopback(req.full_url) and target.scheme == "http" and target.hostname in _LOOPBACK
        if target.scheme != "https" and not stays:
            raise ZooError(f"{req.full_url}: redirects to {newurl[:200]!r}; only https is followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class WebSource:
    """A zoo behind a base address that ends with a slash."""

    def __init__(self, base: str, patience: Patience) -> None:
        self.base = base
        self.patience = patience
        # A proxy of the environment is for the outside, not for this machine.
        proxies = (urllib.request.ProxyHandler({}),) if _is_loopback(base) else ()
        self._opener = urllib.request.build_opener(_CheckedRedirects, *proxies)

    @property
    def label(self) -> str:
        return self.base

    def read(self, path: str, limit: int) -> bytes | None:
        def attempt() -> bytes | None:
            with self._open(path, 0) as response:
                if response.status == 404:
                    return None
                content = b""
                while len(content) <= limit and (chunk := response.read1(_CHUNK)):
                    content += chunk
                if len(content) > limit:
                    raise ZooError(f"{self.base}{path}: is larger than the {limit:,} bytes it may have")
                declared = _length(response)
                if declared is not None and len(content) < declared:
                    raise _Interrupted(f"the connection ended after {len(content):,} of {declared:,} bytes")
                return content

        return self._persist(path, attempt, progress=lambda: 0)

    def fetch(self, path: str, part: Path, size: int) -> None:
        def attempt() -> None:
            have = _size(part)
            if have > size:
                _discard(part)
                have = 0
            if have < size:
                self._append(path, part, have, size)

        self._persist(path, attempt, progress=lambda: _size(part))

    def _append(self, path: str, part: Path, have: int, size: int) -> None:
        """One request for the bytes from `have` on; what came is in `part`, whatever happens."""
        with self._open(path, have) as response:
            if response.status == 404:
                raise ZooError(f"{self.base}{path}: is not there, the index names it")
            if response.status == 416 or (response.status == 206 and not _starts_at(response, have)):
                _discard(part)
                raise _Interrupted("the server sent another range than was asked for")
            if response.status == 200:
                have = 0  # the whole file, from a server that knows no ranges
            declared = _length(response)
            if declared is not None and have + declared != size:
                raise ZooError(
                    f"{self.base}{path}: the server has {have + declared:,} bytes, the index says {size:,}: "
                    "the zoo was changed just now, or is damaged; try again later"
                )
            have = _write(response, part, have, size)
            if have < size:
                raise _Interrupted(f"the connection ended after {have:,} of {size:,} bytes")
            if declared is None and _has_more(response):
                _discard(part)
                raise ZooError(f"{self.base}{path}: the server sends more than the {size:,} bytes of the index")

    def _open(self, path: str, start: int) -> HTTPResponse:
        """The server's answer: 200, 206, 404 or 416. Other answers raise."""
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(self.base + urllib.parse.quote(path), headers=headers)
        try:
            response: HTTPResponse = self._opener.open(request, timeout=self.patience.timeout_s)
        except urllib.error.HTTPError as error:
            if error.code in (404, 416):
                return error  # type: ignore[return-value]  # it is the response, by another name
            with error:
                if error.code in _TRANSIENT:
                    raise _Interrupted(f"the server answered {error.code}", _retry_after(error)) from error
                raise ZooError(f"{self.base}{path}: the server answered {error.code}") from error
        except (ValueError, http.client.InvalidURL) as error:  # of a host name or a redirect; another try is no use
            proxy = self._proxy()
            # With a proxy the text of the error is left out: it may quote a piece of the proxy's password.
            why = f"a redirect, or that of the proxy {proxy}" if proxy else str(error)
            raise ZooError(f"{self.base}{path}: invalid address ({why})") from error
        return response

    def _proxy(self) -> Proxy | None:
        return None if _is_loopback(self.base) else proxy_for(self.base, any_scheme=False)

    def _persist(self, path: str, attempt: Callable[[], T], *, progress: Callable[[], int]) -> T:
        """What `attempt` returns, retried after errors that may pass."""
        best, fruitless = progress(), 0
        while True:
            try:
                return attempt()
            except (_Interrupted, http.client.HTTPException, OSError) as error:
                # TimeoutError, ConnectionError and URLError are OSErrors; a full disk comes as StorageError.
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                if isinstance(reason, ssl.SSLCertVerificationError):
                    raise ZooError(
                        f"{self.base}{path}: its certificate is not trusted ({reason.verify_message})"
                    ) from error
                problem = self._problem(reason)
                if isinstance(reason, str):  # urllib's own, of a proxy it cannot use
                    raise ZooError(f"{self.base}{path}: {problem}") from error
                fruitless = 0 if progress() > best else fruitless + 1
                best = max(best, progress())
                if fruitless >= self.patience.attempts:
                    raise ZooError(
                        f"{self.base}{path}: {problem}, after {fruitless} attempts. "
                        "What came is kept: the same command resumes from there."
                    ) from error
                asked = error.wait_s if isinstance(error, _Interrupted) else None
                wait = self.patience.wait_s * 2 ** max(fruitless - 1, 0) if asked is None else asked
                time.sleep(min(wait, self.patience.longest_wait_s))

    def _problem(self, reason: BaseException | str) -> str:
        """What went wrong, and the proxy it went through; an answer came from the server."""
        text = str(reason) or type(reason).__name__
        proxy = None if isinstance(reason, _Interrupted) else self._proxy()
        return f"cannot be reached through the proxy {proxy} ({text})" if proxy else text


def open_web(base: str, patience: Patience | None = None) -> WebSource:
    """The zoo behind an https address; plain http only on this machine.

    Raises:
        UsageError: the address is none of these.
    """
    try:
        parts = urllib.parse.urlsplit(base)
        valid = bool(parts.hostname) and not (parts.query or parts.fragment or parts.username or parts.password)
        valid = valid and parts.port != 0 and base.isascii() and base.isprintable() and " " not in base
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            f"{base!r}: invalid address, expected https://HOST/PATH/ in plain ASCII, without user, query or fragment"
        )
    if parts.scheme != "https" and not _is_loopback(base):
        raise UsageError(f"{base}: plain http is allowed to this machine only; use https://")
    return WebSource(base.rstrip("/") + "/", patience or Patience())


def _write(response: HTTPResponse, part: Path, have: int, size: int) -> int:
    """Append what comes, up to `size`; return the bytes there are."""
    try:
        file = open(part, "ab" if have else "wb")  # noqa: SIM115  closed below; only disk errors are StorageError
    except OSError as error:
        raise StorageError(f"cannot write {part}: {error.strerror or error}") from error
    with file:
        while have < size and (chunk := response.read1(min(_CHUNK, size - have))):
            try:
                file.write(chunk)
            except OSError as error:
                raise StorageError(f"cannot write {part}: {error.strerror or error}") from error
            have += len(chunk)
    return have


def _has_more(response: HTTPResponse) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return bool(response.read1(1))
    return False


def _length(response: HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() else None


def _starts_at(response: HTTPResponse, start: int) -> bool:
    return response.headers.get("Content-Range", "").replace("=", " ").startswith(f"bytes {start}-")


def _retry_after(response: urllib.error.HTTPError) -> float | None:
    """Seconds that the server asks to wait, given as a number or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _is_loopback(url: str) -> bool:
    return urllib.parse.urlsplit(url).hostname in _LOOPBACK


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:  # as StorageError, or it would be taken for one of the network
        raise unreadable(path, error) from error


def _discard(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {part}: {error.strerror or error}") from error
