"""A frozen network computed faster: BatchNorm with fixed statistics becomes part of the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import conv2d


class _Tracer(fx.Tracer):
    """Norm layers stay whole, also those of timm, which have an activation inside."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return isinstance(module, nn.BatchNorm2d) or super().is_leaf_module(module, path)


def trace(module: nn.Module) -> fx.Graph:
    """What a module computes, as a graph whose norm layers can be folded.

    Raises:
        Exception: whatever its own code raises when it is given no numbers.
    """
    return _Tracer().trace(module)


def trace_or_none(module: nn.Module) -> fx.Graph | None:
    """The same; None for a module that cannot be traced."""
    try:
        return trace(module)
    except Exception:  # whatever a network's own code raises when it is given no numbers
        return None


def fold_norms(part: fx.GraphModule, kept: Collection[str] = ()) -> fx.GraphModule:
    """Let each convolution do what the BatchNorm behind it does, where nothing else sees what lies between.

    The weight of a convolution keeps its name, and may be replaced by `functional_call` and differentiated. Statistics,
    scale and shift of a norm layer become constants.

    Args:
        part: traced by `trace`; it is changed. Its norm layers take their stored statistics.
        kept: names of tensors that will be replaced: norm layers that have one of them stay as they are.

    Returns:
        The same part.
    """
    layers = dict(part.named_modules())
    folded = 0
    for behind in list(part.graph.nodes):
        layer = layers.get(str(behind.target)) if behind.op == "call_module" else None
        if not isinstance(layer, nn.BatchNorm2d) or not layer.track_running_stats:
            continue
        before = behind.args[0] if behind.args else None
        if not isinstance(before, fx.Node):  # given by its name
            continue
        convolution = layers.get(str(before.target)) if before.op == "call_module" else None
        names = {f"{behind.target}.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
        if type(convolution) is not nn.Conv2d or len(before.users) > 1 or not names.isdisjoint(kept):
            continue
        if convolution.padding_mode != "zeros" or convolution.bias is not None:
            continue
        _fold(part, before, behind, convolution, layer, f"folded{folded}")
        folded += 1
    part.graph.eliminate_dead_code()
    part.recompile()
    return part


def _fold(
    part: fx.GraphModule, before: fx.Node, behind: fx.Node, convolution: nn.Conv2d, layer: nn.BatchNorm2d, name: str
) -> None:
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None
    assert variance is not None
    factor = torch.rsqrt(variance + layer.eps)
    if layer.weight is not None:
        factor = factor * layer.weight.detach()
    shift = -mean * factor
    if layer.bias is not None:
        shift = shift + layer.bias.detach()
    # Beside the convolution, not in it: that belongs to the network, which is called without this graph too.
    part.register_buffer(f"{name}_factor", factor[:, None, None, None], persistent=False)
    part.register_buffer(f"{name}_shift", shift, persistent=False)
    with part.graph.inserting_before(behind):
        tensors = [part.graph.get_attr(path) for path in (f"{before.target}.weight", f"{name}_factor", f"{name}_shift")]
        how = (convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
        result = part.graph.call_function(_convolve, (before.args[0], *tensors, *how))
        for inside in ("drop", "act"):  # timm's norm layers have these behind the norm
            if isinstance(getattr(layer, inside, None), nn.Module):
                result = part.graph.call_module(
                    _apart(part, f"{behind.target}.{inside}", f"{name}_{inside}"), (result,)
                )
    behind.replace_all_uses_with(result)
    part.graph.erase_node(behind)
    part.graph.erase_node(before)


def _apart(part: fx.GraphModule, path: str, name: str) -> str:
    """The path of the same activation that does not write over what it is given.

    Autograd would copy that first, which is a sixth of a step.
    """
    activation = part.get_submodule(path)
    if not getattr(activation, "inplace", False):
        return path
    apart = copy.copy(activation)
    apart.inplace = False  # type: ignore[assignment]
    part.add_module(name, apart)
    return name


def freeze(module: nn.Module) -> nn.Module:
    """The same network for weights that stay as they are; itself where it cannot be traced."""
    graph = trace_or_none(module)
    return module if graph is None else fold_norms(fx.GraphModule(module, graph))


def channels_last(images: Tensor) -> Tensor:
    """The same images (N, C, H, W), laid out as convolutions are fastest on; anything else as it is."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def _convolve(
    images: Tensor,
    weight: Tensor,
    factor: Tensor,
    shift: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    return conv2d(images, weight * factor, shift, stride, padding, dilation, groups)
