"""Files of a small bank under mutation: how each kind is taken apart, sealed again and read."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).parents[1] / "format"))

import small_bank

from impress_format.bank import open_bank
from impress_format.bank_files.calibration import CALIBRATION
from impress_format.bank_files.projection import PROJECTION
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.container.codec import CodecError, decode_mask, encode_mask
from impress_format.errors import ImpressError
from impress_format.limits import MAX_PACKED, MAX_WEIGHTS
from impress_format.operations.pack import pack_tasks
from impress_format.operations.verify import verify_bank
from impress_format.records.fields import TAG_BYTES
from impress_format.tasks.pack import open_pack
from impress_format.tasks.pack_check import check_pack

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {
    "manifest": "bank.json",
    "mask": "masks/00000.safetensors",
    "task": "tasks/one.safetensors",
    "calibration": "calibration.safetensors",
    "recogniser": "recogniser.safetensors",
    "pack": "packs/*.safetensors",
    "projection": "projection.safetensors",
}
KINDS = (*FILES, "frame")
_TEXT = rb'{"__metadata__":{"impress":"[\"'
_SHORT = b'{"__metadata__":{"impress":"2"}'
"""What the short form of a task's file begins with."""
_LAYER, _ONES = small_bank.LAYERS[0], small_bank.ONES[0]


@dataclass(frozen=True)
class Target:
    """A small bank in `folder`, one file of which is replaced for each input."""

    folder: Path
    kind: str
    undamaged: bytes

    def seeds(self) -> list[bytes]:
        """Inputs that are read without an error, and files of the golden bank."""
        if self.kind == "frame":
            mask = small_bank.mask(11)[_LAYER.name]
            frame = encode_mask(mask)
            return [b"\0" + frame, b"\1" + zstandard.decompress(frame)]
        contents = [self.undamaged]
        part = {"manifest": "bank.json", "mask": "masks/*", "task": "tasks/*", "pack": "packs/*"}.get(self.kind)
        contents += [path.read_bytes() for path in sorted(GOLDEN.glob(f"v*/digits.impress/{part}"))] if part else []
        seeds = [b"\0" + content for content in contents]
        if self.kind != "manifest":
            seeds += [b"\1" + _without_length(content) for content in contents]
        return seeds

    def run(self, data: bytes) -> bool:
        """Read one input: whether it was taken. Only this project's errors may come out.

        If the first byte is odd, the rest is header, NUL, tensors, and the header's length and what a short one says
        of the file's are made right; of a frame it
        is the content. Every second input gets a right checksum, by no byte of it that a search could settle on.
        """
        selector, content = data[0] if data else 0, data[1:]
        if self.kind == "frame":
            return _decode(zstandard.compress(content) if selector & 1 else content)
        if selector & 1 and self.kind != "manifest":
            header, _, body = content.partition(b"\0")
            header = _of_length(header, len(body))
            content = len(header).to_bytes(8, "little") + header + body
        if zlib.crc32(data) & 1:
            content = sealed(content, safetensors=self.kind != "manifest")
        path = self.folder / FILES[self.kind]
        if self.kind == "pack":  # whose name is its digest's beginning
            for old in path.parent.iterdir():
                old.unlink()
            path = path.with_name(f"{_digest_of(content)[:16]}.safetensors")
        path.write_bytes(content)
        try:
            self.read(path)
        except ImpressError as error:
            str(error).encode()  # fit to print
            return False
        return True

    def read(self, path: Path) -> None:
        """Read the file as every command does, and hold what comes out to what the format says."""
        bank = open_bank(self.folder)
        if self.kind == "mask":
            _, masks = bank.read_mask(0)
            bank.read_mask_record(0)
            assert {name: mask.shape for name, mask in masks.items()} == {
                layer.name: layer.shape for layer in small_bank.LAYERS
            }
        elif self.kind == "task":
            record, alpha = bank.read_task("one")
            bank.read_task_record("one")
            assert record.name == "one"
            assert np.isfinite(alpha).all()
        elif self.kind == "pack":
            with contextlib.suppress(ImpressError):
                check_pack(open_pack(path), bank.manifest, bank.identity, seen={}, hidden=())
            with contextlib.suppress(ImpressError):
                assert len(bank.summarise_tasks()) <= MAX_PACKED
            for name in bank.task_names():
                bank.find_task("rotated-digits/1")
                record, alpha = bank.read_task(name)
                assert record.name == name
                assert np.isfinite(alpha).all()
        elif self.kind == "recogniser":
            _, task_classifier = bank.files.read(TASK_CLASSIFIER)
            assert len(task_classifier.center) == 7
            assert len(bank.identity.signature_tag()) == TAG_BYTES
        elif self.kind == "projection":
            _, projection = bank.files.read(PROJECTION)
            assert projection.directions.shape == (5, projection.dimensions)
            assert np.isfinite(projection.directions).all()
            assert len(bank.identity.signature_tag()) == TAG_BYTES
        elif self.kind == "calibration":
            _, calibration = bank.files.read(CALIBRATION)
            assert calibration.pixels.shape[1:] == bank.backbone.input_shape
        else:
            assert bank.backbone.weights <= MAX_WEIGHTS
            if sum(layer.size for layer in bank.backbone.layers) < 1 << 16:
                verify_bank(self.folder)  # reads every file under the mutated manifest


def make(folder: Path, kind: str) -> Target:
    """A bank in `folder` whose file of `kind` inputs will replace."""
    if kind == "projection":
        bank = small_bank.over_weights(folder, projection=small_bank.moved_projection())
        return Target(folder, kind, bank.files.path(PROJECTION).read_bytes())
    bank = small_bank.make(folder, calibration=True, task_classifier=True)
    if kind == "pack":
        pack_tasks(bank)
        (path,) = (folder / "packs").iterdir()
        return Target(folder, kind, path.read_bytes())
    return Target(folder, kind, (folder / FILES[kind]).read_bytes() if kind in FILES else b"")


def sealed(content: bytes, *, safetensors: bool) -> bytes:
    """The same bytes with the right checksum, where there is room for one (docs/format.md, Checksum)."""
    if safetensors and content[8:].startswith(_SHORT):
        return _sealed_short(content)
    start = _digest_start(content, safetensors=safetensors)
    if start is None:
        return content
    digest = hashlib.sha256(content[:start] + b"0" * 32 + content[start + 32 :]).hexdigest()[:32]
    return content[:start] + digest.encode() + content[start + 32 :]


def _sealed_short(content: bytes) -> bytes:
    start = 8 + int.from_bytes(content[:8], "little")
    if start + 16 > len(content):
        return content
    digest = hashlib.sha256(content[:start] + bytes(16) + content[start + 16 :]).digest()[:16]
    return content[:start] + digest + content[start + 16 :]


def _digest_start(content: bytes, *, safetensors: bool) -> int | None:
    if content[8:].startswith(_TEXT):
        return 8 + len(_TEXT) if 8 + len(_TEXT) + 32 <= len(content) else None
    marker = rb"\"digest\":\"" if safetensors else b'"digest": "'
    find: Callable[[bytes], int] = content.find if safetensors else content.rfind
    start = find(marker) + len(marker)
    return None if start < len(marker) or start + 32 > len(content) else start


def _digest_of(content: bytes) -> str:
    """The digest written in a file, zeros where it has none."""
    start = _digest_start(content, safetensors=True)
    digits = b"" if start is None else content[start : start + 32]
    return digits.decode() if re.fullmatch(rb"[0-9a-f]{32}", digits) else "0" * 32


def _without_length(content: bytes) -> bytes:
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end] + b"\0" + content[end:]


def _of_length(header: bytes, size: int) -> bytes:
    """The header of a short form says how long the rest is: else nothing behind it would be looked at."""
    if not header.startswith(_SHORT):
        return header
    return re.sub(
        rb'"shape":\[\d+\],"data_offsets":\[0,\d+\]', b'"shape":[%d],"data_offsets":[0,%d]' % (size, size), header
    )


def _decode(frame: bytes) -> bool:
    try:
        mask = decode_mask(frame, _LAYER.shape, _ONES)[0]
    except CodecError:
        return False
    assert mask.shape == _LAYER.shape
    assert int(mask.sum()) == _ONES
    return True
