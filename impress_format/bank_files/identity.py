"""What a task must have been made with to belong to a bank, asked of the files that the bank keeps once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from impress_format.bank_files.projection import PROJECTION
from impress_format.bank_files.row import KeptFiles
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.errors import FormatError
from impress_format.parts.part import BankIdentity


def signature_kind(files: KeptFiles) -> Literal["features", "pixels"] | None:
    """What tells images of a bank's tasks apart: features that heads read, or its task classifier; None if nothing
    does.
    """
    if files.has(TASK_CLASSIFIER):
        return "pixels"
    return "features" if files.has(PROJECTION) else None


def identity_of(files: KeptFiles, manifest: Path, basis_digest: Callable[[int, bool], str]) -> BankIdentity:
    """What tasks of the bank with these files are held to.

    Args:
        manifest: the file of the bank's manifest, for what it says wrong.
        basis_digest: see BankIdentity.
    """

    def signature_tag() -> bytes:
        match signature_kind(files):
            case "pixels":
                return files.known(TASK_CLASSIFIER).record.tag
            case "features":
                return files.known(PROJECTION).record.tag
        raise FormatError(manifest, "says that there is no recogniser")

    return BankIdentity(
        basis_digest=basis_digest,
        signature_tag=signature_tag,
        by_features=lambda: signature_kind(files) == "features",
        directions=lambda: files.known(PROJECTION).size,
        positions=lambda: files.known(TASK_CLASSIFIER).size,
    )
