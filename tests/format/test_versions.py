"""What a bank of an older format version cannot hold is refused, and the way out is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from impress_format.errors import BankMismatch
from impress_format.versions import FORMAT_VERSION, require_version

BANK = Path("a.impress")


def test_a_bank_of_this_version_holds_all() -> None:
    require_version(BANK, FORMAT_VERSION, "which has no packs")


def test_an_older_one_is_to_be_upgraded() -> None:
    with pytest.raises(BankMismatch) as refused:
        require_version(BANK, 1, "which has no packs")
    assert str(refused.value) == "a.impress has format version 1, which has no packs: run `impress bank upgrade` first"


def test_what_else_may_be_done_is_said() -> None:
    with pytest.raises(BankMismatch, match=r"run `impress bank upgrade`, or use `alpha_dtype` float16$"):
        require_version(BANK, 1, "which stores no int8", instead="use `alpha_dtype` float16")


@pytest.mark.parametrize(("version", "least", "refused"), [(1, 1, False), (1, 2, True), (2, 2, False), (2, 3, True)])
def test_only_versions_before_the_first_that_can(version: int, least: int, refused: bool) -> None:
    if refused:
        with pytest.raises(BankMismatch, match=f"has format version {version}, "):
            require_version(BANK, version, "which has none", least=least)
    else:
        require_version(BANK, version, "which has none", least=least)
