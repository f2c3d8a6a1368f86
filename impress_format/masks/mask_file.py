"""masks/NNNNN.safetensors: one supermask, a compressed frame a layer (docs/format.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from impress_format.container.codec import BoolArray, CodecError, decode_mask, encode_mask, pack_bits
from impress_format.container.sealed_file import DIGEST_DIGITS, read_record, seal_tensors, unseal_tensors
from impress_format.disk.files import make_folder, write_atomically
from impress_format.errors import FormatError
from impress_format.limits import MAX_HEADER_BYTES
from impress_format.manifest import check_file_version, file_version
from impress_format.masks.mask_values import MaskArray, restore_values, store_values, values_bytes
from impress_format.parts.part import BankIdentity
from impress_format.parts.signature import check_signatures_of
from impress_format.records.manifest import BankManifest
from impress_format.records.masks import MaskRecord, supermask_sizes
from impress_format.records.network import BackboneSpec
from impress_format.records.training import Elsewhere


def read_mask(
    path: Path, manifest: BankManifest, index: int, content: bytes | None = None
) -> tuple[MaskRecord, dict[str, MaskArray]]:
    """The mask planned at `index`: arrays by layer name, in the shapes of the layers: bool, int8 of a signed mask,
    float32 of a real one.

    Args:
        content: the bytes that are to be in the file; None to read it.

    Raises:
        FormatError: the file is missing, damaged, or not the mask that was planned.
    """
    layers = manifest.backbone.masked_layers
    record, tensors = unseal_tensors(path, MaskRecord, _most_bytes(manifest.backbone), content)
    _check_record(path, manifest, index, record)
    if set(tensors) != {layer.name for layer in layers}:
        raise FormatError(path, f"holds masks for {sorted(tensors)}, expected the backbone's {len(layers)} layers")
    masks: dict[str, MaskArray] = {}
    parts = []
    mask_type = record.plan.type
    for layer, ones in zip(layers, record.ones, strict=True):
        frame = tensors[layer.name]
        if frame.dtype != np.uint8 or frame.ndim != 1:
            raise FormatError(path, f"{layer.name}: expected a row of bytes, found {frame.dtype} {frame.shape}")
        try:
            size = values_bytes(mask_type, ones)
            bits, values = decode_mask(frame.tobytes(), layer.shape, ones, size)
            masks[layer.name] = restore_values(bits, values, mask_type)
            parts.append((bits, values))
        except CodecError as error:
            raise FormatError(path, f"{layer.name}: {error}") from error
    if bits_digest(parts) != record.bits:
        raise FormatError(path, "its masks do not have the digest written in it")
    return record, masks


def check_mask(
    path: Path, manifest: BankManifest, index: int, identity: BankIdentity, content: bytes | None = None
) -> None:
    """Every check there is on the mask planned at `index`.

    Args:
        content: the bytes that are to be in its file; None to read it.

    Raises:
        FormatError: as read_mask, or its signature was not made as the bank makes them.
    """
    record, _ = read_mask(path, manifest, index, content)
    _signature_of(path, record, identity)


def read_mask_signature(
    path: Path, manifest: BankManifest, index: int, identity: BankIdentity
) -> npt.NDArray[np.uint8] | None:
    """The signature of a mask's task, uint8 (64,); None if it has none.

    Raises:
        FormatError: as check_mask, but for the mask's bits.
    """
    return _signature_of(path, read_mask_record(path, manifest, index), identity)


def _signature_of(path: Path, record: MaskRecord, identity: BankIdentity) -> npt.NDArray[np.uint8] | None:
    if record.signature is None:
        return None
    signature = np.frombuffer(bytes.fromhex(record.signature), dtype=np.uint8)
    check_signatures_of(path, signature[np.newaxis], identity)
    return signature


def read_mask_record(path: Path, manifest: BankManifest, index: int) -> MaskRecord:
    """Only the header of a mask file (its checksum is checked).

    Raises:
        FormatError: as read_mask.
    """
    record = read_record(path, MaskRecord, _most_bytes(manifest.backbone))
    _check_record(path, manifest, index, record)
    return record


def seal_mask(
    path: Path,
    manifest: BankManifest,
    index: int,
    masks: Mapping[str, MaskArray],
    accuracy: float | None,
    signature: bytes | None,
    elsewhere: Elsewhere | None = None,
) -> bytes:
    """The file of the mask planned at `index`.

    Raises:
        FormatError: the mask is not the one that was planned.
    """
    layers, plan = manifest.backbone.masked_layers, manifest.masks[index]
    try:
        values = {layer.name: store_values(masks[layer.name], plan.type) for layer in layers}
    except CodecError as error:
        raise FormatError(path, str(error)) from error
    record = MaskRecord(
        index=index,
        plan=plan,
        ones=tuple(int(np.count_nonzero(masks[layer.name])) for layer in layers),
        bits=bits_digest([(masks[layer.name] != 0, values[layer.name]) for layer in layers]),
        backbone=manifest.backbone.digest,
        accuracy=accuracy,
        signature=None if signature is None else signature.hex(),
        format_version=file_version(manifest),
        elsewhere=elsewhere,
    )
    _check_record(path, manifest, index, record)
    frames = {
        layer.name: np.frombuffer(encode_mask(masks[layer.name] != 0, values[layer.name]), dtype=np.uint8)
        for layer in layers
    }
    return seal_tensors(record, frames)


def place_mask(path: Path, manifest: BankManifest, index: int, content: bytes) -> None:
    """Put the file of the mask planned at `index` into its place; one that is there already is kept (an equal run made
    it).

    Raises:
        FormatError: one is there, and is damaged or another.
        StorageError: the disk said no.
    """
    make_folder(path.parent)
    try:
        write_atomically(path, content, replace=False)
    except FileExistsError:
        read_mask(path, manifest, index)


def reseal_mask(path: Path, manifest: BankManifest, index: int) -> bytes:
    """The file of a mask that is stored already, in the manifest's version: the same frames.

    Raises:
        FormatError: as read_mask_record.
    """
    record, tensors = unseal_tensors(path, MaskRecord, _most_bytes(manifest.backbone))
    _check_record(path, manifest, index, record)
    return seal_tensors(msgspec.structs.replace(record, format_version=file_version(manifest)), tensors)


def bits_digest(layers: Sequence[tuple[BoolArray, bytes]]) -> str:
    """Digest of one supermask: of its layers in order the bits, packed in C order, and what its ones weigh."""
    digest = hashlib.sha256()
    for bits, values in layers:
        digest.update(pack_bits(bits))
        digest.update(values)
    return digest.hexdigest()[:DIGEST_DIGITS]


def _most_bytes(backbone: BackboneSpec) -> int:
    """Bytes of the largest honest mask file: incompressible bits, values and classes, frames, header."""
    return MAX_HEADER_BYTES + sum(
        layer.size // 8 + layer.size + layer.size // layer.shape[0] + layer.shape[0] + 1024
        for layer in backbone.masked_layers
    )


def _check_record(path: Path, manifest: BankManifest, index: int, record: MaskRecord) -> None:
    plan, backbone = manifest.masks[index], manifest.backbone
    check_file_version(path, record.format_version, manifest)
    if record.index != index or record.plan != plan:
        raise FormatError(path, f"is not the mask planned at {index} ({plan.label})")
    if record.backbone != backbone.digest:
        raise FormatError(path, f"was made for backbone {record.backbone[:12]}…, not {backbone.digest[:12]}…")
    expected = supermask_sizes(backbone.masked_layers, plan.density, plan.allocation)
    if record.ones != expected:
        raise FormatError(path, f"has {record.ones} ones, expected {expected} at density {plan.density}")
