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
    if folder := os.environ.get("IMPRESS_DATA"):
        return Path(folder).expanduser()
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "impress"
    try:
        return Path.home() / ".cache" / "impress"
    except RuntimeError as error:  # neither HOME nor an entry in the list of users, as in many containers
        raise DataError(
            "this user has no home folder to look for data sets in: set IMPRESS_DATA or give `data_dir`"
        ) from error
