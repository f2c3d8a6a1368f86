"""Where data sets are."""

from __future__ import annotations

import os
from pathlib import Path

from impress_format.errors import DataError


def default_data_dir() -> Path:
    """$IMPRESS_DATA, else a folder in the user's cache.

    Raises:
        DataError: the variable is not set and this user has no home folder.
    """
    folder = named_or_cache("IMPRESS_DATA")
    if folder is None:
        raise DataError("this user has no home folder to look for data sets in: set IMPRESS_DATA or give `data_dir`")
    return folder


def named_or_cache(variable: str, *below: str) -> Path | None:
    """The folder that an environment variable names, else one in the user's cache; None where this user has no home."""
    if folder := os.environ.get(variable):
        return Path(folder).expanduser()
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache, "impress", *below)
    try:
        return Path.home().joinpath(".cache", "impress", *below)
    except RuntimeError:  # neither HOME nor an entry in the list of users, as in many containers
        return None
