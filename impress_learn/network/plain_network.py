"""A network under the effective weights of a task, as others have it: a state dict, the lines that load it, a graph."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from impress_format.errors import ExportFailed
from impress_format.records.network import LENET
from impress_learn.network.backbone import Backbone, Effective, bind, count_votes, each_tensor
from impress_learn.network.small_resnet import filters_of, small_resnet, small_resnet_lines
from impress_learn.network.timm_models import timm_settings


def plain_state(backbone: Backbone, effective: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the plain network under effective weights: copies on the CPU, none of which share memory.

    Some networks use a module in several places (CoaT) and have its tensors in the state dict once for each; effective
    weights name them once, and hold for all of them.

    Args:
        effective: what stands in place of parameters and buffers, by name, BatchNorm statistics included.
    """
    module = backbone.module
    named = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    replaced = {id(named[name]): tensor for name, tensor in effective.items()}
    state = module.state_dict(keep_vars=True)
    return {key: replaced.get(id(old), old).detach().cpu().contiguous().clone() for key, old in state.items()}


def of_classes(backbone: Backbone, classes: int, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with an output for each of a task's own classes, the first of all that the network has.

    Args:
        classes: of the task.
        state: of `plain_state`; that of a task with a head has so many already.
    """
    if classes == backbone.spec.classes:
        return dict(state)
    shapes = {name: tensor.shape for name, tensor in _with_outputs(backbone, classes).state_dict().items()}
    return {
        name: tensor if tensor.shape == shapes[name] else tensor[:classes].clone() for name, tensor in state.items()
    }


def logits_in_float64(backbone: Backbone, effective: Effective, classes: int, images: Tensor) -> Tensor:
    """Logits (batch, classes) of normalised images under effective weights, all computed in float64, on the CPU."""
    bound = bind(backbone.spec, copy.deepcopy(backbone.module).cpu().double()).answering(classes)
    precise = replace(bound, mirrored=backbone.mirrored)
    doubled = each_tensor(effective, lambda one: one.cpu().double() if one.is_floating_point() else one.cpu())
    with torch.no_grad():
        return precise(doubled, images.double())


class VotingNetworks(nn.Module):
    """Plain networks that answer together (backbone.Vote)."""

    def __init__(self, networks: Sequence[nn.Module], shares: Sequence[float]) -> None:
        super().__init__()
        self.networks, self.shares = nn.ModuleList(networks), tuple(shares)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of normalised images."""
        return count_votes([network(images) for network in self.networks], self.shares)


class MirroredNetwork(nn.Module):
    """A plain network that is asked for an image and its mirror image, and answers by the mean."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of normalised images."""
        logits: Tensor = (self.network(images) + self.network(images.flip(3))) / 2
        return logits


@dataclass(frozen=True)
class Loading:
    """How an exported file becomes the plain network, `net`.

    Attributes:
        lines: Python that does it, for a file: it is printed. Tests run it.
        make: the structure, in eval mode.
        fill: puts the tensors of a state dict (`of_classes`) into that.
    """

    lines: Callable[[Path], str]
    make: Callable[[], nn.Module]
    fill: Callable[[nn.Module, Mapping[str, Tensor]], None]

    def load(self, file: Path) -> nn.Module:
        """Does what the lines do."""
        net = self.make()
        self.fill(net, load_file(file))
        return net


def loading(backbone: Backbone, classes: int) -> Loading:
    """How a file is loaded into the plain network with this many classes."""
    spec = backbone.spec
    family, _, model = spec.arch.partition(":")
    fill = "net.load_state_dict(load_file({file}))"
    first = ["from safetensors.torch import load_file"]
    make: Callable[[], nn.Module]
    if family == "timm":
        import timm

        settings = timm_settings(model, spec.input_shape, classes)
        named = ", ".join(f"{name}={value!r}" for name, value in settings.items() if name != "pretrained")
        lines = ["import timm", *first, f'net = timm.create_model("{model}", {named}).eval()', fill]
        make = partial(timm.create_model, model, **settings)
    elif (filters := filters_of(spec.arch)) is not None:
        lines = [*small_resnet_lines(filters, spec.input_shape[0], classes), *first, fill, "net.eval()"]
        make = partial(small_resnet, filters, spec.input_shape[0], classes)
    else:
        shapes = [layer.shape for layer in spec.masked_layers[:-1]]
        shapes.append((classes, spec.masked_layers[-1].shape[1]))
        linear = [f"nn.Linear({fan_in}, {out}, bias=False)" for out, fan_in in shapes]
        lines = [
            "from torch import nn",
            *first,
            f"net = nn.Sequential(nn.Flatten(), {', nn.ReLU(), '.join(linear)})",
            "weights = load_file({file})",
            "net.load_state_dict(dict(zip(net.state_dict(), weights.values())))",
        ]
        make = partial(_of_linear_layers, shapes)

    def put(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        if spec.arch == LENET:  # whose layers have names of their own in the file
            tensors = dict(zip(net.state_dict(), tensors.values(), strict=True))
        net.load_state_dict(tensors)

    return Loading(lambda file: "\n".join(lines).replace("{file}", repr(str(file))), lambda: make().eval(), put)


def _of_linear_layers(shapes: Sequence[tuple[int, ...]]) -> nn.Module:
    """Linear layers without bias, of these shapes, and ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for out, fan_in in shapes:
        layers += [nn.Linear(fan_in, out, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def graph_lines(file: Path) -> str:
    """Python that loads an exported graph, and asks it."""
    return (
        f"import onnxruntime\nnet = onnxruntime.InferenceSession({str(file)!r})\n"
        'logits = net.run(["logits"], {"images": images})[0]'
    )


def onnx_graph(
    backbone: Backbone,
    classes: int,
    states: Sequence[Mapping[str, Tensor]],
    shares: Sequence[float] | None,
    metadata: Mapping[str, str],
) -> bytes:
    """The plain network as a graph: `images` (batch, *input_shape), normalised -> `logits` (batch, classes).

    Args:
        states: of `of_classes`, one, or those of networks that vote.
        shares: of networks that vote; None of one that answers alone.
        metadata: that the graph carries.

    Raises:
        ExportFailed: torch's exporter cannot write this network.
    """
    networks = [_with_outputs(backbone, classes) for _ in states]
    for network, state in zip(networks, states, strict=True):
        network.load_state_dict(state)
    if backbone.mirrored:
        networks = [MirroredNetwork(network) for network in networks]
    module = networks[0] if shares is None else VotingNetworks(networks, shares)
    for own in map(vars, module.modules()):
        if "fused_attn" in own:  # of timm: the exporter takes it of four dimensions alone; NesT and Hiera have five
            own["fused_attn"] = False
    try:
        with _quietly():
            program = torch.onnx.export(
                module.eval(),
                (torch.zeros(2, *backbone.spec.input_shape),),  # of one image, it would make a constant of the batch
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
            assert program is not None
            program.model.metadata_props.update(metadata)
            content: bytes = program.model_proto.SerializeToString()
    except Exception as error:  # the exporter has as many errors as there are operations
        raise ExportFailed(f"torch cannot write {backbone.spec.arch} as an ONNX graph: {_reason(error)}") from error
    return content


def _with_outputs(backbone: Backbone, classes: int) -> nn.Module:
    """The structure of the network with so many outputs, on the CPU."""
    module: nn.Module = copy.deepcopy(backbone.module).cpu()
    if classes == backbone.spec.classes:
        return module
    if (reset := getattr(module, "reset_classifier", None)) is not None:  # of timm
        reset(classes)
        return module
    last = list(backbone.weights)[-1]
    module.get_submodule(last.rpartition(".")[0]).weight = nn.Parameter(backbone.weights[last][:classes].cpu().clone())
    return module


@contextmanager
def _quietly() -> Iterator[None]:
    """Within it, the exporter says nothing of what it does not optimise."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: what the exporter raises around it are pages about the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
