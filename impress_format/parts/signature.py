"""A signature: 64 bytes by which images of a task are told from others (docs/format.md, Signatures).

They begin with a tag of what they were made with, the bank's recogniser or its projection; what follows is in
feature_signature.py for the latter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from impress_format.parts.feature_signature import check_evidence
from impress_format.parts.numbers import NumbersError
from impress_format.parts.part import Array, BankIdentity, Beside, Part
from impress_format.records import SIGNATURE_BYTES


def store_signature(signature: bytes) -> npt.NDArray[np.uint8]:
    """A signature as it is stored."""
    return np.frombuffer(signature, dtype=np.uint8)


def check_signatures(signatures: Array, identity: BankIdentity) -> None:
    """Refuse signatures (N, ...) of another form, or made otherwise than the bank makes them.

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
    if by_features:
        check_evidence(signatures.view(np.uint8), identity.directions())


def _check(stored: Array, _: None, __: Beside, identity: BankIdentity) -> None:
    check_signatures(stored, identity)


def _restore(stored: Array, _: None, __: Beside, identity: BankIdentity) -> bytes:
    check_signatures(stored[np.newaxis], identity)
    return stored.tobytes()


SIGNATURE: Part[None, bytes] = Part(name="signature", kind="label", restore=_restore, check=_check)
