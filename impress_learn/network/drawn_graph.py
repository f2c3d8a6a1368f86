"""An ONNX graph that draws its weights from the seed while it is loaded: of the network it holds none (docs/format.md).

Into the exported graph of a task's network go, in place of each drawn layer's weights, calls of functions that are part
of the graph (graph_functions.py): the signs of the weights, the hash of each weight's residual value, and the ones of
masks, which stand in it as Elias-Fano codes or as bits, whichever is smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from impress_format.errors import ExportFailed
from impress_format.parts.alpha import alpha_columns
from impress_format.parts.numbers import FloatArray
from impress_format.parts.residual import hash_label, split_values
from impress_format.records.network import BackboneSpec, LayerSpec
from impress_format.weights import layer_scale, substream_key
from impress_learn.network.elias_fano import elias_fano
from impress_learn.network.graph_functions import DOMAIN, LEAST_OPSET, functions
from impress_learn.network.graph_nodes import FLOAT, Nodes

_WORDS_A_BLOCK, _WEIGHTS_A_BLOCK, _HASHES_A_BLOCK = 4, 256, 8
_EQUAL = 1e-5
"""How far weights may be from a multiple of what is drawn, of the largest: by rounding, where a norm was folded in."""


@dataclass(frozen=True, eq=False)
class DrawnTask:
    """What a task adds to the weights of a network that is drawn.

    Attributes:
        alpha: float32 (K, columns), or None.
        granularity: of alpha.
        masks: K of them, each arrays by layer name: bool, int8 or float32, in the shapes of the layers.
        own: the mask, bool, that the last layer has to itself; None if it has none.
        codes: of the residual's values, packed, or None.
        bits: of each of these.
        scales: float32, one for each masked layer.
    """

    alpha: FloatArray | None
    granularity: int
    masks: Sequence[Mapping[str, npt.NDArray[Any]]]
    own: npt.NDArray[np.bool_] | None
    codes: npt.NDArray[np.uint8] | None
    bits: int
    scales: FloatArray


def drawn_graph(content: bytes, spec: BackboneSpec, task: DrawnTask, state: Mapping[str, FloatArray]) -> bytes:
    """The graph with its weights drawn.

    Args:
        content: the graph that torch exported, all weights in it.
        spec: of the network: its weights are signed constants.
        state: the weights under the task, by name, as they were exported.

    Raises:
        ExportFailed: the graph has a layer's weights otherwise than as they are, or as a norm behind them scales them.
    """
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    (opset,) = (one.version for one in model.opset_import if one.domain == "")
    if opset < LEAST_OPSET:
        raise ExportFailed(f"torch exports opset {opset}, which has no operations on bits: no graph can draw weights")
    for node in graph.node:
        node.ClearField("metadata_props")
    graph.ClearField("value_info")
    places = _find(spec, {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}, state)
    drawn_here = {place.name for place in places.values()}
    kept = [one for one in graph.initializer if one.name not in drawn_here]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    to = Nodes()
    _draw(to, spec, task, places, state)
    graph.initializer.extend(to.tensors)
    nodes = [*to.nodes, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)
    model.functions.extend(functions(opset, [node.op_type for node in to.nodes if node.domain == DOMAIN]))
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    onnx.checker.check_model(model)
    drawn: bytes = model.SerializeToString()
    return drawn


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a graph has a layer's weights.

    Attributes:
        name: of the constant.
        values: of it.
        turned: whether rows and columns are exchanged.
    """

    name: str
    values: FloatArray
    turned: bool = False


def _find(
    spec: BackboneSpec, constants: Mapping[str, FloatArray], state: Mapping[str, FloatArray]
) -> dict[str, _Place]:
    """Where the weights of all layers are: under their own name, or turned for a product of matrices.

    Raises:
        ExportFailed: those of a layer are not there.
    """
    by_content = {(one.shape, one.tobytes()): name for name, one in constants.items()}
    found: dict[str, _Place] = {}
    for layer in spec.layers:
        if (values := constants.get(layer.name)) is not None:  # a norm behind the layer may have scaled them
            found[layer.name] = _Place(layer.name, values)
            continue
        as_it_is = state[layer.name]
        for turned, sought in ((False, as_it_is), (True, np.ascontiguousarray(as_it_is.T))):
            if (name := by_content.get((sought.shape, sought.tobytes()))) is not None:
                found[layer.name] = _Place(name, constants[name], turned)
                break
        else:
            raise ExportFailed(f"torch exports {spec.arch} without the weights {layer.name}: no graph can draw them")
    return found


def _draw(
    to: Nodes,
    spec: BackboneSpec,
    task: DrawnTask,
    places: Mapping[str, _Place],
    state: Mapping[str, FloatArray],
) -> None:
    """Add the nodes that make all layers' weights, each under the name that the graph has for them."""
    sizes = {name: place.values.size for name, place in places.items()}  # some of the last rows may not answer
    streams = _Streams(to, spec, sizes, hashed=task.codes is not None)
    masks = _masks(to, spec, task, sizes)
    levels = None if task.codes is None else _levels(to, task.codes, task.bits)
    for layer in spec.layers:
        place, size = places[layer.name], sizes[layer.name]
        weights = to.node("Mul", streams.signs(layer), to.array(np.float32(layer_scale(layer))))
        weights = _shaped(to, weights, layer, size)
        if layer.masked:
            terms = masks[layer.name]
            if levels is not None:
                added = _residual(to, spec, task, layer, levels, streams.hashes(layer))
                terms = [*terms, _shaped(to, added, layer, size)]
            weights = to.node("Mul", terms[0] if len(terms) == 1 else to.node("Sum", *terms), weights)
        if place.turned:
            to.node("Transpose", weights, output=place.name)
            continue
        if (factors := _factors(place.values, state[layer.name])) is not None:
            weights = to.node("Mul", weights, to.array(factors[:, np.newaxis]))
        to.node("Reshape", weights, to.whole(place.values.shape), output=place.name)


class _Streams:
    """The words of all layers, drawn at once: a runtime takes a node as long to load as it takes many numbers."""

    def __init__(self, to: Nodes, spec: BackboneSpec, sizes: Mapping[str, int], *, hashed: bool) -> None:
        hash_of = spec.masked_layers if hashed else ()
        self._to, self._sizes = to, sizes
        blocks = [-(-sizes[layer.name] // _WEIGHTS_A_BLOCK) for layer in spec.layers]
        blocks += [-(-sizes[layer.name] // _HASHES_A_BLOCK) for layer in hash_of]
        labels = [layer.name for layer in spec.layers] + [hash_label(layer) for layer in hash_of]
        starts = [0, *accumulate(blocks)]
        keys = np.stack([substream_key(spec.seed, label) for label in labels])
        words = to.call("Words", to.array(keys), to.whole(starts[:-1]), to.number(starts[-1]))
        middle = starts[len(spec.layers)]
        self._first = dict(zip(labels, starts, strict=False))
        self._middle = middle
        self._signs = to.call("Signs", to.part(words, 0, _WORDS_A_BLOCK * middle))
        self._hashes = (
            to.call("Hashes", to.part(words, _WORDS_A_BLOCK * middle, _WORDS_A_BLOCK * starts[-1])) if hashed else ""
        )

    def signs(self, layer: LayerSpec) -> str:
        """Those of a layer's weights, float32."""
        first = self._first[layer.name] * _WEIGHTS_A_BLOCK
        return self._to.part(self._signs, first, first + self._sizes[layer.name])

    def hashes(self, layer: LayerSpec) -> str:
        """Those of a layer's weights, uint64 below 2^32."""
        first = (self._first[hash_label(layer)] - self._middle) * _HASHES_A_BLOCK
        return self._to.part(self._hashes, first, first + self._sizes[layer.name])


def _levels(to: Nodes, codes: npt.NDArray[np.uint8], bits: int) -> str:
    """All values of the residual, in units of their scales."""
    return to.call(
        "Levels",
        to.array(codes),
        to.array(np.arange(0, 8, bits, dtype=np.uint64)),
        to.array(np.uint64(2**bits - 1)),
        to.array(np.float32(2**bits - 1)),
    )


def _residual(to: Nodes, spec: BackboneSpec, task: DrawnTask, layer: LayerSpec, levels: str, hashes: str) -> str:
    """What the residual adds to the factors of a layer's weights, in a row."""
    assert task.codes is not None
    layers = spec.masked_layers
    place, counts = layers.index(layer), split_values(layers, len(task.codes) * 8 // task.bits)
    places = to.call("Places", hashes, to.array(np.uint64(counts[place])), to.number(sum(counts[:place])))
    return to.node("Mul", to.node("Gather", levels, places), to.array(task.scales[place]))


def _masks(to: Nodes, spec: BackboneSpec, task: DrawnTask, sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """Alpha times each mask, for each masked layer, (rows, the rest); and the mask that the last one has to itself."""
    layers = spec.masked_layers
    terms: dict[str, list[str]] = {layer.name: [] for layer in layers}
    weighed = layers if task.own is None else layers[:-1]
    if task.own is not None:
        size = sizes[layers[-1].name]
        terms[layers[-1].name].append(_shaped(to, _mask(to, task.own.reshape(-1)[:size]), layers[-1], size))
    ends = [0, *accumulate(sizes[layer.name] for layer in weighed)]
    columns = alpha_columns(weighed, task.granularity)
    firsts = [0, *accumulate(columns)]
    if task.alpha is None or not weighed:
        return terms
    for mask, alpha in zip(task.masks, task.alpha, strict=True):
        row = _mask(to, np.concatenate([mask[layer.name].reshape(-1)[: sizes[layer.name]] for layer in weighed]))
        for layer, start, end, first, some in zip(weighed, ends, ends[1:], firsts, columns, strict=False):
            coefficients = to.array(alpha[first : first + some])
            if some > 1:
                rows = np.arange((end - start) * layer.shape[0] // layer.size) * some // layer.shape[0]
                coefficients = to.node("Gather", coefficients, to.array(rows[:, np.newaxis]))
            own = _shaped(to, to.part(row, start, end), layer, end - start)
            terms[layer.name].append(to.node("Mul", own, coefficients))
    return terms


def _shaped(to: Nodes, row: str, layer: LayerSpec, size: int) -> str:
    """The first `size` of a layer's weights as rows."""
    return to.node("Reshape", row, to.whole([size * layer.shape[0] // layer.size, layer.size // layer.shape[0]]))


def _mask(to: Nodes, mask: npt.NDArray[Any]) -> str:
    """A mask in a row, float32."""
    if not mask.any():  # its ones are in rows that do not answer
        return to.node("Expand", to.array(np.float32(0)), to.whole([len(mask)]))
    coded = elias_fano(np.flatnonzero(mask), len(mask))
    if mask.dtype == np.bool_ and coded.size >= -(-len(mask) // 8):
        bits = to.call("Bits", to.array(np.packbits(mask, bitorder="little")), to.whole([len(mask)]))
        return to.node("Cast", bits, to=FLOAT)
    places = to.call(
        "Ones",
        to.array(coded.unary),
        to.whole([8 * len(coded.unary)]),
        to.array(coded.low),
        to.whole([coded.ones * coded.bits]),
        to.array(2 ** np.arange(coded.bits, dtype=np.int64)),
        to.number(2**coded.bits),
        to.whole([coded.ones]),
    )
    zeros, ones = to.node("Expand", to.array(np.float32(0)), to.whole([len(mask)])), mask[mask != 0]
    return to.node("ScatterElements", zeros, places, _weighing(to, ones))


def _weighing(to: Nodes, ones: npt.NDArray[Any]) -> str:
    """What the ones of a mask weigh."""
    if ones.dtype == np.bool_:
        return to.node("Expand", to.array(np.float32(1)), to.whole([len(ones)]))
    if ones.dtype == np.int8:
        bits = to.call("Bits", to.array(np.packbits(ones < 0, bitorder="little")), to.whole([len(ones)]))
        signs = to.node("Cast", bits, to=FLOAT)
        return to.node("Sub", to.array(np.float32(1)), to.node("Add", signs, signs))
    return to.array(ones)


def _factors(exported: FloatArray, state: FloatArray) -> FloatArray | None:
    """What the exporter has multiplied each row of a layer's weights by, that of the norm behind it; None for nothing.

    Raises:
        ExportFailed: it has done something else.
    """
    if exported.shape == state.shape and np.array_equal(exported, state):
        return None
    if exported.shape == state.shape:
        ours, theirs = (one.reshape(len(one), -1).astype(np.float64) for one in (state, exported))
        factors = (ours * theirs).sum(1) / np.maximum((ours * ours).sum(1), np.finfo(np.float64).tiny)
        if np.abs(ours * factors[:, np.newaxis] - theirs).max() <= _EQUAL * np.abs(theirs).max():
            rows: FloatArray = factors.astype(np.float32)
            return rows
    raise ExportFailed("torch exports a layer's weights otherwise than as they are: no graph can draw them")
