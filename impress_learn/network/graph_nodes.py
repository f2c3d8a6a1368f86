"""Nodes and constants of an ONNX graph, as they are added to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from impress_learn.network.graph_functions import DOMAIN

if TYPE_CHECKING:
    import onnx

FLOAT = 1
"""The number that ONNX has for float32."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """Nodes and constants of a graph, as they are added. Equal constants are there once."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    _known: dict[Any, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def array(self, value: npt.NDArray[Any] | np.generic) -> str:
        """A constant."""
        import onnx.numpy_helper

        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self._name()
            tensor = onnx.numpy_helper.from_array(array, self._known[key])
            self.tensors.append(tensor)
        return self._known[key]

    def whole(self, values: Sequence[int]) -> str:
        """Whole numbers."""
        return self.array(np.array(values, dtype=np.int64))

    def number(self, value: int) -> str:
        """A whole number, of no axis."""
        return self.array(np.int64(value))

    def node(self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """An operation; the name of what it makes."""
        import onnx.helper

        output = output or self._name()
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def call(self, function: str, *inputs: str) -> str:
        """A function of the graph's own."""
        return self.node(function, *inputs, domain=DOMAIN)

    def part(self, row: str, start: int, end: int) -> str:
        """Some of a row."""
        return self.node("Slice", row, self.whole([start]), self.whole([end]))

    def _name(self) -> str:
        return f"i{next(self._numbers)}"
