"""Which format versions this release reads.

The rule: a release reads every version from 1 to its own and writes its own. A bank of a newer version is
refused as a whole, with the version named, since its files may mean what this release cannot know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from impress_format.errors import BankMismatch, FormatError, UnsupportedVersion
from impress_format.limits import MAX_INTEGER

FORMAT_VERSION = 2


_COMMAND = "impress bank upgrade"
"""The command that puts a bank into this release's version."""


class _VersionOnly(msgspec.Struct):
    format_version: Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


def check_version(path: Path, manifest: bytes) -> int:
    """The manifest's format version, looked at before anything else in it is interpreted.

    Raises:
        FormatError: no JSON, or no version in it.
        UnsupportedVersion: newer than this release reads.
    """
    try:
        version = msgspec.json.decode(manifest, type=_VersionOnly).format_version
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FormatError(path, f"is not a bank manifest ({error})") from error
    if version > FORMAT_VERSION:
        raise UnsupportedVersion(
            path, f"has format version {version}, this release reads up to {FORMAT_VERSION}: upgrade impresslearn"
        )
    if version < 1:
        raise FormatError(path, f"has format version {version}, expected 1 to {FORMAT_VERSION}")
    return version


def require_version(path: Path, version: int, limit: str, *, least: int = FORMAT_VERSION, instead: str = "") -> None:
    """Refuse what a bank of an older format version cannot hold.

    Args:
        path: of the bank.
        version: its format version.
        limit: what that version cannot, as a clause: "which has no packs".
        least: the first version that can.
        instead: what else the caller may do, if anything: "use `alpha_dtype` float16".

    Raises:
        BankMismatch: the bank's version is below `least`.
    """
    if version < least:
        what_to_do = f"run `{_COMMAND}`, or {instead}" if instead else f"run `{_COMMAND}` first"
        raise BankMismatch(f"{path} has format version {version}, {limit}: {what_to_do}")
