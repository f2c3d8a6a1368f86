"""One task as a plain network, which runs without this project: merged weights for timm or torch, or an ONNX graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from impress_format.bank import open_bank
from impress_format.files import is_there, refuse_taken, write_atomically
from impress_learn.classes import stored_classes
from impress_learn.fits import require
from impress_learn.network.small_resnet import filters_of, small_resnet_lines

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from impress_learn.network.backbone import Backbone

METADATA = "impress"
"""The one key of the file's metadata: safetensors writes several in varying order."""

ExportFormat = Literal["safetensors", "onnx"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        tensors: how many.
        load: lines of Python that load the file into the plain network, `net`, ready to be asked.
        format: of the file.
    """

    task: str
    name: str
    bytes: int
    tensors: int
    load: str
    format: ExportFormat = "safetensors"


def export_weights(
    path: Path | str,
    task: str,
    file: Path,
    *,
    file_format: ExportFormat = "safetensors",
    device: Callable[[], torch.device] | None = None,
) -> Exported:
    """Write the network of a stored task, BatchNorm statistics included: float32, about 4 bytes a weight.

    As the state dict of the plain network, or as a graph with an input `images` (batch, *input_shape), normalised, and
    an output `logits` (batch, classes). The file's metadata has one key, `impress`: JSON with `arch`, `input_shape`,
    `classes`, `class_names`, `preprocess` (docs/format.md), `task` and `name`.

    Raises:
        TaskNotFound, AmbiguousTask: there is no such task, or several.
        StorageError: there is a file at `file` already, or it cannot be written.
        UsageError: onnx or onnxscript is not installed.
        FormatError, BackboneMismatch, OutOfMemory.
    """
    bank = open_bank(path)
    name = bank.find_task(task)
    bank.complete_masks()
    if is_there(file):
        raise refuse_taken(file)
    if file_format == "onnx":
        require(
            all(find_spec(package) for package in ("onnx", "onnxscript")),
            "`file_format` onnx needs the packages onnx and onnxscript: pip install 'impresslearn[onnx]'",
        )

    import safetensors.torch
    from msgspec import to_builtins

    from impress_learn.jobs import choose_device
    from impress_learn.loaded import load_bank

    loaded = load_bank(bank, choose_device(device))
    state = {**loaded.backbone.module.state_dict(), **loaded.task_weights(name)}
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
    described_as = {METADATA: json.dumps(described)}
    state = _of_classes(loaded.backbone, classes, state)
    state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    if file_format == "onnx":
        content = _onnx_graph(loaded.backbone, classes, state, described_as)
        load = (
            f"import onnxruntime\nnet = onnxruntime.InferenceSession({str(file)!r})\n"
            'logits = net.run(["logits"], {"images": images})[0]'
        )
    else:
        content = safetensors.torch.save(state, metadata=described_as)
        load = loading_lines(loaded.backbone, classes, file)
    try:
        write_atomically(file, content, replace=False)
    except FileExistsError as error:
        raise refuse_taken(file) from error
    return Exported(task=record.task, name=name, bytes=len(content), tensors=len(state), load=load, format=file_format)


def _of_classes(backbone: Backbone, classes: int, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the network with an output for each of a task's own classes, the first of all it has."""
    if classes == backbone.spec.classes:
        return dict(state)
    shapes = {name: tensor.shape for name, tensor in _with_outputs(backbone, classes).state_dict().items()}
    return {name: tensor if tensor.shape == shapes[name] else tensor[:classes] for name, tensor in state.items()}


def _with_outputs(backbone: Backbone, classes: int) -> nn.Module:
    """The structure of the network with so many outputs."""
    import copy

    from torch import nn

    module: nn.Module = copy.deepcopy(backbone.module).cpu()
    if classes == backbone.spec.classes:
        return module
    if (reset := getattr(module, "reset_classifier", None)) is not None:  # of timm
        reset(classes)
        return module
    last, kept = list(backbone.weights)[-1], backbone.weights[list(backbone.weights)[-1]][:classes]
    module.get_submodule(last.rpartition(".")[0]).weight = nn.Parameter(kept.cpu().clone())
    return module


def _onnx_graph(backbone: Backbone, classes: int, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    import torch

    module = _with_outputs(backbone, classes)
    module.load_state_dict(state)
    program = torch.onnx.export(
        module.eval(),
        (torch.zeros(2, *backbone.spec.input_shape),),  # of one image, the exporter would make a constant of the batch
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None
    program.model.metadata_props.update(metadata)
    content: bytes = program.model_proto.SerializeToString()
    return content


def loading_lines(backbone: Backbone, classes: int, file: Path) -> str:
    """Python that loads an exported file of a task of so many classes into the plain network."""
    spec, path = backbone.spec, repr(str(file))
    family, _, model = spec.arch.partition(":")
    first = "from safetensors.torch import load_file"
    if family == "timm":
        settings = f"num_classes={classes}, in_chans={spec.input_shape[0]}"
        patches = getattr(backbone.module, "patch_embed", None)
        if getattr(patches, "img_size", None) is not None:  # vision transformers are built for one size
            settings += f", img_size={tuple(spec.input_shape[1:])}"
        return "\n".join(
            (
                "import timm",
                first,
                f'net = timm.create_model("{model}", {settings}).eval()',
                f"net.load_state_dict(load_file({path}))",
            )
        )
    if (filters := filters_of(spec.arch)) is not None:
        made = small_resnet_lines(filters, spec.input_shape[0], classes)
        return "\n".join((*made, first, f"net.load_state_dict(load_file({path}))", "net.eval()"))
    shapes = [layer.shape for layer in spec.masked_layers]
    shapes[-1] = (classes, *shapes[-1][1:])
    linear = [f"nn.Linear({fan_in}, {out}, bias=False)" for out, fan_in in shapes]
    return "\n".join(
        (
            "from torch import nn",
            first,
            f"net = nn.Sequential(nn.Flatten(), {', nn.ReLU(), '.join(linear)})",
            f"weights = load_file({path})",
            "net.load_state_dict(dict(zip(net.state_dict(), weights.values())))",
        )
    )
