"""Which format versions this release reads.

The rule: a release reads every version from 1 to its own and writes its own. A bank of a newer version is
refused as a whole, with the version named, since its files may mean what this release cannot know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from impress_format.errors import FormatError, UnsupportedVersion
from impress_format.limits import MAX_INTEGER

FORMAT_VERSION = 2


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
