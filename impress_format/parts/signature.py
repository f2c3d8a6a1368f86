"""A signature: 64 bytes by which images of a task are told from others (docs/format.md, Signatures).

They begin with a tag of what they were made with, the bank's task classifier or its projection; what follows is in
pixel_signature.py and feature_signature.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format.errors import FormatError
from impress_format.parts.feature_signature import check_feature_signatures
from impress_format.parts.numbers import NumbersError
from impress_format.parts.part import Array, BankIdentity, Beside, Part
from impress_format.parts.pixel_signature import check_pixel_signatures
from impress_format.records.fields import SIGNATURE_BYTES


def store_signature(signature: bytes) -> npt.NDArray[np.uint8]:
    """A signature as it is stored."""
    return np.frombuffer(signature, dtype=np.uint8)


def check_signatures(signatures: Array, identity: BankIdentity) -> None:
    """Refuse signatures (N, ...) of another form, made otherwise than the bank makes them, or of impossible bytes.

    Raises:
        NumbersError: there are such.
        FormatError: nothing in the bank makes signatures, or what does is damaged.
    """
    if signatures.dtype != np.uint8 or signatures.shape[1:] != (SIGNATURE_BYTES,):
        raise NumbersError(f"is {signatures.dtype} {signatures.shape[1:]}, expected {SIGNATURE_BYTES} bytes")
    tag = np.frombuffer(identity.signature_tag(), dtype=np.uint8)
    by_features = identity.by_features()
    if (signatures[:, : len(tag)] != tag).any():
        raise NumbersError(f"was not made with this bank's {'projection' if by_features else 'recogniser'}")
    check, size = (
        (check_feature_signatures, identity.directions) if by_features else (check_pixel_signatures, identity.positions)
    )
    check(signatures.view(np.uint8), size())


def check_signatures_of(path: Path, signatures: Array, identity: BankIdentity) -> None:
    """As check_signatures, of a file that is no task's.

    Raises:
        FormatError: naming the file.
    """
    try:
        check_signatures(signatures, identity)
    except NumbersError as error:
        raise FormatError(path, f"signature {error}") from error


def _check(stored: Array, _: None, __: Beside, identity: BankIdentity) -> None:
    check_signatures(stored, identity)


def _restore(stored: Array, _: None, __: Beside, identity: BankIdentity) -> bytes:
    check_signatures(stored[np.newaxis], identity)
    return stored.tobytes()


SIGNATURE: Part[None, bytes] = Part(name="signature", letter="s", kind="label", restore=_restore, check=_check)
