"""One task as a plain network, which runs without this project: merged weights for timm or torch, or an ONNX graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from impress_format.bank import open_bank
from impress_format.disk.files import is_there, refuse_taken, write_atomically
from impress_format.parts.vote import VOTE
from impress_learn.running.device import Device, choose_device
from impress_learn.streams.classes import stored_classes
from impress_learn.training.config import require

if TYPE_CHECKING:
    from torch import Tensor

    from impress_format.bank import Bank
    from impress_learn.network.backbone import Backbone, Effective
    from impress_learn.network.drawn_graph import DrawnTask

METADATA = "impress"
"""The one key of the file's metadata: safetensors writes several in varying order."""

_CHECKED = 3
"""Seeded images by which a written network is held to the bank."""

_MIRROR_LINE = (
    "# the bank answers by the mean of an image and its mirror image: (net(images) + net(images.flip(3))) / 2"
)

ExportFormat = Literal["safetensors", "onnx", "onnx-drawn"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        tensors: how many; 0 of a graph that draws them.
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
        file_format: `safetensors`; `onnx` for a graph, which needs the packages onnx and onnxscript; `onnx-drawn` for
            one that holds no weights, but draws them from the bank's seed while it is loaded, and has of the task its
            parts alone.
        device: what to compute on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives one and is
            called once the settings are found in order; None for the CPU.

    Returns:
        What was written, and `load`, lines of Python that load it.

    Raises:
        TaskNotFound, AmbiguousTask: there is no such task, or several.
        StorageError: there is a file at `file` already, or it cannot be written.
        UsageError: onnx or onnxscript is not installed; safetensors of a task whose masks vote; a drawn graph over
            weights that are not drawn as signed constants, or of a task that has other parts than alpha, a residual and
            a mask.
        ExportFailed: there is no such graph, or the logits of what was written are not the bank's.
        FormatError: a file of the bank is damaged.
        BackboneMismatch: the rebuilt backbone has another digest.
        OutOfMemory: the network or the masks do not fit.

    Examples:
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
    if file_format != "safetensors":
        require(
            all(find_spec(package) for package in ("onnx", "onnxscript")),
            f"`file_format` {file_format} needs the packages onnx and onnxscript: pip install 'impresslearn[onnx]'",
        )
    drawn = drawn_task(bank, name) if file_format == "onnx-drawn" else None

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
        drawn=drawn,
    )
    return Exported(task=record.task, name=name, format=file_format, **asdict(written))


def drawn_task(bank: Bank, name: str) -> DrawnTask:
    """What a stored task adds to weights that are drawn from the bank's seed.

    Raises:
        UsageError: they are drawn otherwise than as signed constants, or the task has other parts.
    """
    from impress_format.container.header import read_tensors
    from impress_format.parts.alpha import ALPHA
    from impress_format.parts.own_mask import OWN_MASK
    from impress_format.parts.residual import RESIDUAL, split_residual
    from impress_format.parts.table import BY_NAME
    from impress_format.tasks.short import parse_task
    from impress_learn.network.drawn_graph import DrawnTask

    spec, stored = bank.backbone, bank.read_stored(name)
    require(
        spec.init == "signed-constant" and spec.pretrained is None,
        "`file_format` onnx-drawn is for weights that are drawn from the seed as signed constants; use onnx",
    )
    able = {ALPHA.name, RESIDUAL.name, OWN_MASK.name}
    others = [part for part in stored.values if part not in able and BY_NAME[part].kind != "label"]
    has = " and a ".join(others)
    require(not others, f"`file_format` onnx-drawn: {name} has a {has}, which is not drawn; use onnx")
    content, settings = bank.task_bytes(name), stored.record.settings
    parts = read_tensors(content, parse_task(bank.task_path(name), content))
    layers, alpha, codes, scales = spec.masked_layers, ALPHA.of(stored), None, np.zeros(0, dtype=np.float32)
    if RESIDUAL.name in parts:
        codes, scales = split_residual(parts[RESIDUAL.name], settings.residual.bits, len(layers))
    weighed = 0 if alpha is None else len(alpha.values)
    return DrawnTask(
        alpha=None if alpha is None else alpha.values,
        granularity=settings.alpha.granularity,
        masks=[bank.read_mask(index)[1] for index in range(weighed)],
        own=OWN_MASK.of(stored),
        codes=codes,
        bits=settings.residual.bits,
        scales=scales,
    )


def write_network(
    backbone: Backbone,
    effective: Effective,
    classes: int,
    file: Path,
    *,
    file_format: ExportFormat,
    metadata: Mapping[str, str],
    drawn: DrawnTask | None = None,
) -> PlainFile:
    """Write a network under effective weights, if what was written answers as it does.

    Args:
        backbone: of `LoadedBank.answering`: a graph of one that is mirrored asks twice, weights do not.
        effective: of `LoadedBank.task_weights`, BatchNorm statistics included.
        classes: that it tells apart under these.
        metadata: text that the file carries.
        drawn: what the task adds to weights that a graph draws itself; None to write the weights.

    Raises:
        StorageError, ExportFailed: as export_weights.
    """
    import torch
    from safetensors.torch import save

    from impress_learn.network.backbone import Vote, each_tensor, members_of
    from impress_learn.network.drawn_graph import drawn_graph
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
    plain = loading(backbone, classes) if file_format == "safetensors" else None
    if plain is None:
        content = onnx_graph(backbone, classes, states, shares, metadata)
        if drawn is not None:
            content = drawn_graph(content, backbone.spec, drawn, {name: one.numpy() for name, one in states[0].items()})
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
    return PlainFile(
        bytes=len(content), tensors=0 if drawn is not None else sum(map(len, states)), load=lines, apart=apart
    )
