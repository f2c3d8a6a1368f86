"""One task as a plain network, which runs without this project: merged weights for timm or torch, or an ONNX graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from impress_format.bank import open_bank
from impress_format.disk.files import is_there, refuse_taken, write_atomically
from impress_format.parts.vote import VOTE
from impress_learn.running.device import Device, choose_device
from impress_learn.streams.classes import stored_classes
from impress_learn.training.config import require

if TYPE_CHECKING:
    from torch import Tensor

    from impress_learn.network.backbone import Backbone, Effective

METADATA = "impress"
"""The one key of the file's metadata: safetensors writes several in varying order."""

_CHECKED = 3
"""Seeded images by which a written network is held to the bank."""

_MIRROR_LINE = (
    "# the bank answers by the mean of an image and its mirror image: (net(images) + net(images.flip(3))) / 2"
)

ExportFormat = Literal["safetensors", "onnx"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        tensors: how many.
        load: lines of Python that load the file into the plain network, `net`, ready to be asked.
        apart: how far its logits, when it was loaded again, were from the bank's, of the largest.
        format: of the file.
    """

    task: str
    name: str
    bytes: int
    tensors: int
    load: str
    apart: float
    format: ExportFormat = "safetensors"


@dataclass(frozen=True, kw_only=True)
class PlainFile:
    """A network that was written; attributes as those of Exported."""

    bytes: int
    tensors: int
    load: str
    apart: float


def export_weights(
    path: Path | str,
    task: str,
    file: Path,
    *,
    file_format: ExportFormat = "safetensors",
    device: Device = None,
) -> Exported:
    """Write the network of a stored task, BatchNorm statistics included: float32, about 4 bytes a weight.

    It is loaded again, by the lines that are returned, and gets its name only where it answers as the bank does.

    As the state dict of the plain network, or as a graph with an input `images` (batch, *input_shape), normalised, and
    an output `logits` (batch, classes). The file's metadata has one key, `impress`: JSON with `arch`, `input_shape`,
    `classes`, `class_names`, `preprocess` (docs/format.md), `task` and `name`.

    Args:
        path: the bank's folder.
        task: the stored task, by name or reference.
        file: what to write; there must be none.
        file_format: `safetensors`, or `onnx` for a graph, which needs the packages onnx and onnxscript.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.

    Returns:
        What was written, and `load`, lines of Python that load it.

    Raises:
        TaskNotFound, AmbiguousTask: there is no such task, or several.
        StorageError: there is a file at `file` already, or it cannot be written.
        UsageError: onnx or onnxscript is not installed; safetensors of a task whose masks vote.
        ExportFailed: there is no such graph, or the logits of what was written are not the bank's.
        FormatError, BackboneMismatch, OutOfMemory.

    Example:
        >>> from pathlib import Path
        >>> from impress_learn import export_weights
        >>> export_weights("build/demo.impress", "rotated-digits-15", Path("digits.safetensors")).tensors
        3
    """
    bank = open_bank(path)
    name = bank.find_task(task)
    if file_format == "safetensors":
        require(
            VOTE.of(bank.read_stored(name)) is None,
            f"in {name} masks vote, whose answers together are not those of one network: use `file_format` onnx, or "
            "add it again by coefficients (`vote=False`)",
        )
    bank.complete_masks()
    if is_there(file):
        raise refuse_taken(file)
    if file_format == "onnx":
        require(
            all(find_spec(package) for package in ("onnx", "onnxscript")),
            "`file_format` onnx needs the packages onnx and onnxscript: pip install 'impresslearn[onnx]'",
        )

    from msgspec import to_builtins

    from impress_learn.running.loaded import load_running

    loaded = load_running(bank, choose_device(device))
    record, spec = bank.read_task_record(name), bank.backbone
    own = stored_classes(bank, record.task, record)
    classes = own.count
    described = {
        "arch": spec.arch,
        "input_shape": spec.input_shape,
        "classes": classes,
        "class_names": own.names,
        "preprocess": to_builtins(bank.manifest.preprocess),
        "task": record.task,
        "name": name,
    }
    written = write_network(
        loaded.answering(None),
        loaded.task_weights(name),
        classes,
        file,
        file_format=file_format,
        metadata={METADATA: json.dumps(described)},
    )
    return Exported(task=record.task, name=name, format=file_format, **asdict(written))


def write_network(
    backbone: Backbone,
    effective: Effective,
    classes: int,
    file: Path,
    *,
    file_format: ExportFormat,
    metadata: Mapping[str, str],
) -> PlainFile:
    """Write a network under effective weights, if what was written answers as it does.

    Args:
        backbone: of `LoadedBank.answering`: a graph of one that is mirrored asks twice, weights do not.
        effective: of `LoadedBank.task_weights`, BatchNorm statistics included.
        classes: that it tells apart under these.
        metadata: text that the file carries.

    Raises:
        StorageError, ExportFailed: as export_weights.
    """
    import torch
    from safetensors.torch import save

    from impress_learn.network.backbone import Vote, each_tensor, members_of
    from impress_learn.network.plain_check import check_graph, check_loaded
    from impress_learn.network.plain_network import (
        graph_lines,
        loading,
        logits_in_float64,
        of_classes,
        onnx_graph,
        plain_state,
    )
    from impress_learn.network.probe import probe_images

    backbone = backbone.to(torch.device("cpu"))
    effective = each_tensor(effective, torch.Tensor.cpu)
    states = [of_classes(backbone, classes, plain_state(backbone, one)) for one in members_of(effective)]
    shares = effective.shares if isinstance(effective, Vote) else None
    mirrored = backbone.mirrored
    if file_format == "safetensors":
        backbone = replace(backbone, mirrored=False)  # whoever loads the weights asks twice: the lines say so
    images = probe_images(backbone.spec)[:_CHECKED]
    with torch.no_grad():
        expected = backbone.answering(classes)(effective, images)
    plain = None if file_format == "onnx" else loading(backbone, classes)
    if plain is None:
        content = onnx_graph(backbone, classes, states, shares, metadata)
    else:
        content = save(states[0], metadata=dict(metadata))

    def exact() -> Tensor:
        return logits_in_float64(backbone, effective, classes, images)

    apart = 0.0

    def check(written: Path) -> None:
        nonlocal apart
        if plain is None:
            apart = check_graph(written, images, expected, exact)
        else:
            apart = check_loaded(plain.load, written, images, expected, exact)

    try:
        write_atomically(file, content, replace=False, check=check)
    except FileExistsError as error:
        raise refuse_taken(file) from error
    lines = graph_lines(file) if plain is None else plain.lines(file)
    if plain is not None and mirrored:
        lines += f"\n{_MIRROR_LINE}"
    return PlainFile(bytes=len(content), tensors=sum(map(len, states)), load=lines, apart=apart)
