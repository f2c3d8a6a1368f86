"""What a field of a record may hold: the annotated types, and the checks of names and texts."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from impress_format.limits import MAX_INTEGER, MAX_SIDE, MAX_TEXT, MAX_THREADS

# Neither controls, which a terminal would obey, nor marks that are invisible or turn the direction of writing.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff"
TASK_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"

TEXT = rf"\A[^{_UNSEEN}]{{1,{MAX_TEXT}}}\Z"
TEXT_OR_NONE = rf"\A[^{_UNSEEN}]*\Z"
Text = Annotated[str, Meta(pattern=TEXT)]
TaskName = Annotated[str, Meta(pattern=rf"\A{TASK_NAME}\Z")]
LayerName = Annotated[str, Meta(pattern=r"\A[!#-\[\]-~]{1,200}\Z")]
"""Visible ASCII but quote and backslash: the same in JSON as in memory."""
Release = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z.+!_-]{1,64}\Z")]
"""A version as packages write it: `2.14.1+cu126`."""
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
BasisId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
"""The first half of a Digest."""
FullDigest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
FileVersion = Literal[1, 2]
Seed = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Count = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Holdout = Annotated[float, Meta(ge=0.0, lt=1.0)]
LearningRate = Annotated[float, Meta(gt=0.0)]
WeightDecay = Annotated[float, Meta(ge=0.0)]
Warmup = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Steps = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Threads = Annotated[int, Meta(ge=1, le=MAX_THREADS)]
Mean = Annotated[float, Meta(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Meta(ge=1e-6, le=1e6)]
Bound = Annotated[float, Meta(ge=-4e38, le=4e38)]
"""Any float32 is one."""

SIGNATURE_BYTES = 64
TAG_BYTES = 2
"""Bytes at the start of a signature: from the digest of the task classifier or projection that made it."""
SignatureText = Annotated[str, Meta(pattern=rf"\A[0-9a-f]{{{2 * SIGNATURE_BYTES}}}\Z")]

ValueBits = Literal[0, 1, 2, 4, 8]
NumberOf = Annotated[int, Meta(ge=0, le=MAX_SIDE)]
Init = Literal["signed-constant", "kaiming-normal"]
MaskKind = Literal["heterogeneous", "homogeneous", "random"]
MaskType = Literal["binary", "signed", "real"]
Allocation = Literal["uniform", "erdos-renyi"]
"""How a mask's ones are shared out to the layers."""
Optimizer = Literal["sgd", "adam", "rmsprop"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record that takes no field it does not know."""


_READABLE = re.compile(TEXT).fullmatch


def is_text(text: str) -> bool:
    """Whether a record may hold this name or reference: UTF-8, 1 to 1,024 characters, none of them invisible."""
    try:
        text.encode()
    except UnicodeEncodeError:  # as a file name has it whose bytes are no UTF-8
        return False
    return _READABLE(text) is not None


_TASK_NAME = re.compile(TASK_NAME, re.ASCII).fullmatch


def is_task_name(name: str) -> bool:
    """Whether a task may have this name: letters, digits, '.', '_', '-', at most 100, not starting with a sign."""
    return _TASK_NAME(name) is not None
