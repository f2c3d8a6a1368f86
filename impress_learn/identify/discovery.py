"""How a stream is read whose tasks nobody names. Light to import: the command line makes its options of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """How a stream of images is read, and when a task in it is new.

    Attributes:
        rule: when a chunk belongs to no known task: by signature, or SupSup's.
        chunk: images that are known to share one task.
        images: of each reference at most; None for all.
        prefix: of the names of new tasks, which are numbered from the first free number on.

    Examples:
        >>> Discovery(chunk=64).rule
        'signature'
    """

    rule: Literal["signature", "supsup"] = field(
        default="signature", metadata={"help": "When images are of no known task: by signature, or SupSup's rule."}
    )
    chunk: int = field(default=128, metadata={"help": "Images that are known to share one task."})
    images: int | None = field(default=None, metadata={"help": "Of each REF at most this many. Default: all."})
    prefix: str = field(default="discovered", metadata={"help": "Of the names of new tasks: PREFIX-1, …"})
