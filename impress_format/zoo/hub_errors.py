"""What an error of huggingface_hub means: whether another try can help, and what a person can do about it.

Its errors, and those of the HTTP client under it (requests, httpx, httpx2), change from release to release; so classes
are told by their names, and texts of others are shown only after what is secret in them is taken out.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator

from impress_format.errors import ImpressError, StorageError, ZooError
from impress_format.zoo.proxy import all_proxies, proxy_for, without_password

_LOST = frozenset(
    {"TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"}  # httpx
    | {"Timeout", "ChunkedEncodingError"}  # requests
    | {"ConnectionError", "TimeoutError", "gaierror", "SSLError"}  # Python itself; the first and last of requests too
)
_BAD_ADDRESS = frozenset({"UnsupportedProtocol", "InvalidURL", "MissingSchema", "InvalidSchema", "InvalidProxyURL"})
_BAD_HEADER = frozenset({"LocalProtocolError", "InvalidHeader"})
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_REFUSED_BY_PROXY = re.compile(r"\b40[137]\b")
_SECRET = re.compile(r"Bearer [^\s'\"]+|hf_[A-Za-z0-9]{6,}|(?<=://)[^/\s'\"]*@")


def may_recover(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: HTTP 408, 429 and 5xx, and lost connections."""
    status = http_status(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    lost = _lost_connection(error)
    if lost is None or _UNTRUSTED in str(lost):
        return False
    return not ("ProxyError" in _kinds(lost) and _REFUSED_BY_PROXY.search(str(lost)))


def http_status(error: BaseException) -> int | None:
    """The status of the answer that this error is about; None where there was no answer."""
    statuses = (getattr(getattr(one, "response", None), "status_code", None) for one in _causes(error))
    return next((status for status in statuses if isinstance(status, int)), None)


def explain(repo: str, error: Exception, *, endpoint: str, offline: bool) -> ImpressError:
    """The error to raise in place of `error`: what is wrong, and what to do."""
    status, lost, kinds = http_status(error), _lost_connection(error), _kinds(error)
    if isinstance(error, OSError) and error.strerror and lost is None:
        where = error.filename or "the cache of huggingface_hub"
        return StorageError(f"hf://{repo}: cannot read or write {where}: {error.strerror}")
    if offline:
        problem = "HF_HUB_OFFLINE is set and the file is not in the cache of huggingface_hub: unset it to download"
    elif status in (401, 403) or "GatedRepoError" in kinds:
        problem = f"no access (HTTP {status}): none, or private; use `hf auth login` or HF_TOKEN"
    elif "RevisionNotFoundError" in kinds:
        problem = "has no such revision"
    elif status == 404:
        problem = f"not found; `hf repos create {repo}` makes a repository to push to"
    elif status is not None:
        problem = f"the Hub answered {status}"
    else:
        problem = _setting_problem(error, kinds, endpoint) or _lost_problem(lost, endpoint) or _shown(error)
    return ZooError(f"hf://{repo}: {problem}")


def check_endpoint(address: str) -> None:
    """Refuse an HF_ENDPOINT that is no address; over some of these, already the import of huggingface_hub fails.

    Raises:
        ZooError: it is none.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        valid = valid and address.isprintable() and " " not in address
    except ValueError:
        valid = False
    if not valid:
        shown = without_password(address)
        raise ZooError(f"HF_ENDPOINT is an invalid address, {shown!r}: expected https://HOST; correct it, or unset it")


def _setting_problem(error: Exception, kinds: frozenset[str], endpoint: str) -> str | None:
    """A wrong setting: token, proxy or address."""
    text = str(error)
    proxies = ", ".join(map(str, all_proxies()))
    if isinstance(error, UnicodeEncodeError) or (kinds & _BAD_HEADER and "header" in text.lower()):
        return (
            "the token has characters that cannot be sent: it must be plain ASCII; set HF_TOKEN again, or use "
            "`hf auth login`"
        )
    if (isinstance(error, ImportError) or kinds & _BAD_ADDRESS) and "socks" in text.lower():
        return (
            "a socks proxy needs a package that is not installed: `pip install socksio pysocks`, or unset the proxy; "
            f"set are {proxies}"
        )
    if kinds & _BAD_ADDRESS or (isinstance(error, ValueError) and "proxy" in text.lower()):
        if proxies:  # not with the text of the error: it quotes half of a password with a slash in it
            return f"a proxy has an invalid address: expected http://HOST:PORT, got {proxies}"
        return f"invalid address ({_shown(error)}): HF_ENDPOINT is {without_password(endpoint)}"
    return None


def _lost_problem(lost: BaseException | None, endpoint: str) -> str | None:
    if lost is None:
        return None
    proxy = proxy_for(endpoint, any_scheme=True)
    if _UNTRUSTED in str(lost):
        return f"the certificate of {without_password(endpoint)} is not trusted ({_shown(lost)})"
    return f"cannot be reached {f'through the proxy {proxy} ' if proxy else ''}({_shown(lost)})"


def _lost_connection(error: BaseException) -> BaseException | None:
    """The error, of this one and its causes, that says that a connection was lost or never came."""
    return next((one for one in _causes(error) if _kinds(one) & _LOST), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _kinds(error: BaseException) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def _shown(error: BaseException) -> str:
    return _SECRET.sub("…", " ".join(str(error).split()))[:200] or type(error).__name__
