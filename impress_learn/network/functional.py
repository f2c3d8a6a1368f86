"""A module called with other tensors in place of its own, which it has again afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

Places = Mapping[str, Sequence[str]]
"""The name of a tensor -> names of all places that hold it, its own among them."""


def places_of(module: nn.Module) -> Places:
    """Where each tensor of a module is held."""
    places: dict[int, list[str]] = {}
    for path, layer in module.named_modules():  # each once, under its first name
        own = chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False))
        for name, tensor in own:
            places.setdefault(id(tensor), []).append(f"{path}.{name}" if path else name)
    return {name: names for names in places.values() for name in names}


def functional_call(
    module: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], places: Places | None = None
) -> Any:
    """`torch.func.functional_call`, also for a module that has a submodule under two names (CoaT's encodings).

    torch swaps a tensor once for each of its names. Where two names are one place, it takes its own replacement for the
    original and leaves that behind (pytorch issue 164759). Here each place is swapped once.

    Args:
        module: its parameters and buffers come back as they were.
        tensors: what stands in place of parameters and buffers, by any of their names; a tensor that several
            submodules share is replaced in all.
        args: of the call.
        places: of `places_of`, for call after call.
    """
    shared = places_of(module) if places is None else places
    everywhere = {place: tensor for name, tensor in tensors.items() for place in shared.get(name, [name])}
    return torch.func.functional_call(module, everywhere, args, tie_weights=False)
