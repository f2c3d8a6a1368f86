"""A signature: 64 bytes by which images of a task are told from others (docs/method.md, Task identity)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from impress_format.bank import Bank
from impress_format.parts.signature import SIGNATURE as FORMAT
from impress_format.parts.signature import store_signature
from impress_format.records.fields import SIGNATURE_BYTES
from impress_format.tasks.file import StoredTask
from impress_learn.parts.part import TaskPart

if TYPE_CHECKING:
    from impress_learn.parts.table import Parts


def settle_signature(bank: Bank, parts: Parts) -> Parts:
    """The parts, without a signature where nothing in the bank makes any."""
    return replace(parts, signature=parts.signature and bank.signature_kind is not None)


def _of_stored(stored: StoredTask) -> Mapping[str, Any]:
    return {"signature": FORMAT.of(stored) is not None}


SIGNATURE = TaskPart(
    format=FORMAT,
    fields=("signature",),
    asked=lambda parts: parts.signature,
    settle=settle_signature,
    of_stored=_of_stored,
    blank=lambda _, __, ___: store_signature(bytes(SIGNATURE_BYTES)),
    words=lambda _, __: "a signature",
)
