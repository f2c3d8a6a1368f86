"""Settings that cannot work: token, HF_ENDPOINT, proxies. Told at once, in words, without what is secret in them."""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import Iterator
from pathlib import Path

import flaky_server as server_does
import pytest
from fake_hub import FakeHub
from flaky_server import FlakyServer

from impress_format.errors import ImpressError, StorageError, ZooError
from impress_format.zoo.hub import open_hub
from impress_format.zoo.hub_errors import explain, may_recover
from impress_format.zoo.index import INDEX
from impress_format.zoo.proxy import all_proxies, proxy_for, without_password
from impress_format.zoo.push import prepare, push
from impress_format.zoo.sources import read_index
from impress_format.zoo.web import Patience, open_web

ZOO = "hf://someone/zoo"
QUICK = Patience(attempts=2, wait_s=0.01, longest_wait_s=0.05, timeout_s=600)
DEAD = "http://me:secret@127.0.0.1:9"  # nobody listens there
SCHEMES = ("http", "https", "all", "no")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment without proxies; the session of huggingface_hub keeps those of the first call, so it is closed."""
    from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

    for name in (f"{scheme}_proxy" for scheme in SCHEMES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    close_session()
    yield
    close_session()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited for the Hub; without waiting."""
    found: list[float] = []
    monkeypatch.setattr("impress_format.zoo.hub.time.sleep", found.append)
    return found


def refusal(zoo: str = ZOO) -> str:
    with pytest.raises(ZooError) as caught:
        open_hub(zoo)
    assert "secret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("endpoint", ["nonsense", "", "htp://host", "http://", "http://[half", "http://host:99999"])
def test_an_endpoint_that_is_no_address_is_named_at_once(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, waits: list[float], endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert refusal().startswith(f"HF_ENDPOINT is an invalid address, {endpoint!r}")
    assert waits == []


def test_an_endpoint_that_only_the_library_refuses(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "nonsense")
    assert "HF_ENDPOINT is nonsense" in refusal()
    assert waits == []


def test_the_password_of_an_endpoint_is_not_shown(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "htp://me:secret@host")
    assert "'htp://host'" in refusal()


@pytest.mark.parametrize("token", ["hf_sécret_secret", "hf_secret\x0bsecret"])
def test_a_token_that_cannot_be_sent(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, waits: list[float], token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert "the token has characters that cannot be sent" in (text := refusal())
    assert "HF_TOKEN" in text
    assert waits == []


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="socks proxies are supported here")
def test_a_socks_proxy_without_its_package(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:9")
    text = refusal()
    assert "pip install socksio" in text
    assert "socks5://127.0.0.1:9 (ALL_PROXY)" in text
    assert waits == []


@pytest.mark.parametrize("proxy", ["ftp://me:secret@host:1", "http://me:sec/ret@host:1", "http://me:secret@host:port"])
def test_a_proxy_that_is_no_address(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, waits: list[float], proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    text = refusal()
    assert "a proxy has an invalid address" in text
    assert "(HTTPS_PROXY)" in text
    assert "sec" not in text
    assert waits == []


def test_a_dead_proxy_on_the_way_to_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

    monkeypatch.setenv("HTTP_PROXY", DEAD)
    text = refusal()
    assert "cannot be reached through the proxy http://127.0.0.1:9 (HTTP_PROXY)" in text
    assert "refused" in text
    assert len(waits) == 3
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    assert open_hub(ZOO).commit == hub.head


def test_a_dead_hub_without_a_proxy_names_none(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "proxy" not in (text := refusal())
    assert "cannot be reached" in text
    assert len(waits) == 3


def test_a_cache_that_cannot_be_written_is_an_error_of_the_disk(
    hub: FakeHub, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    from huggingface_hub import constants

    push(prepare(bank, None), ZOO, replace=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot read or write .*/file/.*: Not a directory"):
        read_index(open_hub(ZOO))
    assert waits == []


@pytest.mark.parametrize("cached", [False, True])
def test_a_push_offline_asks_for_the_network_whatever_is_in_the_cache(
    hub: FakeHub, bank: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    from huggingface_hub import constants

    prepared = prepare(bank, None)
    if cached:
        push(prepared, ZOO, replace=False)
        read_index(open_hub(ZOO))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("impress_format.zoo.push.open_hub", lambda address: pytest.fail("the Hub was tried"))
    with pytest.raises(ZooError, match=r"hf://someone/zoo: pushing needs the network.* unset it") as caught:
        push(prepared, ZOO, replace=False)
    assert "cache" not in str(caught.value)


def error(*names: str, text: str = "", status: int | None = None, cause: BaseException | None = None) -> Exception:
    """An error as a client of HTTP raises it: its classes by name, from the base on."""
    kind: type[Exception] = Exception
    for name in names:
        kind = type(name, (kind,), {})
    made = kind(text)
    if status is not None:
        made.response = type("Response", (), {"status_code": status})()  # type: ignore[attr-defined]
    made.__cause__ = cause
    return made


UNTRUSTED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"


@pytest.mark.parametrize(
    "error",
    [
        error("HTTPError", "TransportError", "NetworkError", "ConnectError"),  # httpx
        error("HTTPError", "TransportError", "TimeoutException", "ReadTimeout"),
        error("HTTPError", "TransportError", "ProtocolError", "RemoteProtocolError"),
        error("HTTPError", "TransportError", "ProxyError", text="503 Service Unavailable"),
        error("RequestException", "ConnectionError"),  # requests
        error("RequestException", "ConnectionError", "ProxyError", text="Cannot connect to proxy, port=443"),
        error("RequestException", "Timeout", "ReadTimeout"),
        ConnectionResetError(),
        TimeoutError(),
        *(error("HfHubHTTPError", status=status) for status in (408, 429, 500, 502, 503, 504)),
        error("LocalEntryNotFoundError", cause=error("NetworkError", "ConnectError")),  # of huggingface_hub
        error("LocalEntryNotFoundError", cause=error("HfHubHTTPError", status=503)),
    ],
)
def test_what_may_recover_is_tried_again(error: Exception) -> None:
    assert may_recover(error)


@pytest.mark.parametrize(
    "error",
    [
        error("HTTPError", "TransportError", "UnsupportedProtocol"),
        error("RequestException", "InvalidSchema", text="Missing dependencies for SOCKS support."),
        error("RequestException", "MissingSchema"),
        error("HTTPError", "TransportError", "ProtocolError", "LocalProtocolError"),
        error("HTTPError", "TransportError", "ProxyError", text="407 Proxy Authentication Required"),
        error("HTTPError", "TransportError", "NetworkError", "ConnectError", text=UNTRUSTED),
        error("RequestException", "ConnectionError", "SSLError", text=UNTRUSTED),
        ImportError("No module named 'socksio'"),
        UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range(128)"),
        ValueError("Unknown scheme for proxy URL"),
        PermissionError(13, "Permission denied", "/cache"),
        error("LocalEntryNotFoundError"),
        error("LocalEntryNotFoundError", cause=error("HfHubHTTPError", status=403)),
        *(error("HfHubHTTPError", status=status) for status in (400, 401, 403, 404, 409, 410, 422)),
    ],
)
def test_what_is_final_is_not_tried_again(error: Exception) -> None:
    assert not may_recover(error)


def explained(error: Exception) -> str:
    return str(explain("someone/zoo", error, endpoint="https://hub.example", offline=False))


def test_a_certificate_is_named_as_what_is_not_trusted() -> None:
    lost = error("NetworkError", "ConnectError", text=UNTRUSTED, cause=ssl.SSLCertVerificationError())
    assert "the certificate of https://hub.example is not trusted" in explained(lost)


def test_texts_of_others_are_shown_without_secrets() -> None:
    text = explained(RuntimeError("sent Bearer abcdef to http://me:secret@host/ with hf_abcdefGHI"))
    assert text == "hf://someone/zoo: sent … to http://…host/ with …"


OUTSIDE = "https://zoo.invalid/"


def web_refusal(base: str = OUTSIDE) -> str:
    with pytest.raises(ZooError) as caught:
        read_index(open_web(base, QUICK))
    assert "secret" not in str(caught.value)
    return str(caught.value)


def test_a_dead_proxy_on_the_way_to_a_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", DEAD)
    text = web_refusal()
    assert f"{OUTSIDE}index.json: cannot be reached through the proxy http://127.0.0.1:9 (https_proxy)" in text
    assert "refused" in text
    assert "after 2 attempts" in text


def test_a_proxy_that_does_not_let_through(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    text = web_refusal()
    assert f"the proxy {server.url.rstrip('/')} (HTTPS_PROXY)" in text
    assert "Tunnel connection failed: 501" in text


def test_a_proxy_that_is_not_in_use_is_not_named(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", DEAD)
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    assert "proxy" not in web_refusal("http://127.0.0.1:9/")  # this machine is never asked through a proxy
    monkeypatch.setenv("NO_PROXY", "zoo.invalid")
    assert "proxy" not in web_refusal()
    server.answers[INDEX] += [server_does.status(500)] * 2
    assert "the server answered 500" in web_refusal(server.url)


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        (
            "http://me:secret@host:port",
            "invalid address (a redirect, or that of the proxy http://host:port (https_proxy))",
        ),
        ("http://", "through the proxy http:// (https_proxy) (no host given)"),
    ],
)
def test_a_proxy_that_urllib_cannot_use_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, proxy: str, words: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setattr("impress_format.zoo.web.time.sleep", lambda wait: pytest.fail("it was tried again"))
    assert words in web_refusal()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:1", "http://host:1"),
        ("me:secret@host:1", "host:1"),
        ("http://me:se/cret@host:1/path", "http://host:1"),
        ("me:se://cret@host", "host"),
        ("http://me:s@cret@host", "http://host"),
        ("host\x1b[31m:1", "host[31m:1"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_all_proxy_counts_for_those_clients_that_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", DEAD)
    assert proxy_for("https://host/", any_scheme=False) is None
    assert str(proxy_for("https://host/", any_scheme=True)) == "http://127.0.0.1:9 (ALL_PROXY)"
    monkeypatch.setenv("https_proxy", "http://other:1")
    assert str(proxy_for("https://host/", any_scheme=True)) == "http://other:1 (https_proxy)"
    monkeypatch.setenv("no_proxy", "host")
    assert proxy_for("https://host/", any_scheme=True) is None
    assert [str(proxy) for proxy in all_proxies()] == ["http://127.0.0.1:9 (ALL_PROXY)", "http://other:1 (https_proxy)"]


def test_every_refusal_is_one_of_ours() -> None:
    for made in (error("Anything"), PermissionError(13, "Permission denied"), UnicodeEncodeError("a", "é", 0, 1, "")):
        assert isinstance(explain("someone/zoo", made, endpoint="", offline=True), ImpressError)
