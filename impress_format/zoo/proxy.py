"""Proxies that the environment names, as fit to be shown: with their variable, without user and password."""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One proxy. `variable` is of the environment; None where the settings of the system have it (macOS)."""

    address: str
    variable: str | None

    def __str__(self) -> str:
        return f"{self.address} ({self.variable or 'of the system settings'})"


def proxy_for(url: str, *, any_scheme: bool) -> Proxy | None:
    """The proxy through which `url` is asked; None where it is asked directly.

    Args:
        any_scheme: ALL_PROXY counts too, as httpx and requests have it; urllib does not know it.
    """
    from urllib.request import getproxies, proxy_bypass  # loads ssl; wanted only where something went wrong

    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return None
    proxies = getproxies()
    for scheme in (parts.scheme, "all") if any_scheme else (parts.scheme,):
        if value := proxies.get(scheme):
            return None if proxy_bypass(_without_user(parts.netloc)) else _shown(scheme, value)
    return None


def all_proxies() -> tuple[Proxy, ...]:
    """Every proxy of the environment: httpx refuses to start over any that is wrong, in use or not."""
    from urllib.request import getproxies

    proxies = getproxies()
    return tuple(_shown(scheme, proxies[scheme]) for scheme in ("all", "http", "https") if proxies.get(scheme))


def without_password(address: str) -> str:
    """An address as it may be shown; nonsense too, which may be a password in the wrong place."""
    scheme, separator, rest = address.partition("://")
    if not (separator and _SCHEME.fullmatch(scheme)):
        scheme, separator, rest = "", "", address
    host = re.split(r"[/?#]", _without_user(rest), maxsplit=1)[0]
    return "".join(character for character in f"{scheme}{separator}{host}" if character.isprintable())[:200]


def _shown(scheme: str, value: str) -> Proxy:
    named = (name for name, text in os.environ.items() if name.lower() == f"{scheme}_proxy" and text == value)
    return Proxy(address=without_password(value), variable=next(named, None))


def _without_user(text: str) -> str:
    return text.rpartition("@")[2]
