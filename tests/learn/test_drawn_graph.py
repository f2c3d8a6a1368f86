"""A graph that draws its weights while it is loaded answers as the bank does, and holds none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from impress_format.errors import ExportFailed, UsageError
from impress_format.weights import random_words, substream_key
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.export import export_weights
from impress_learn.network.drawn_graph import _factors, _mask
from impress_learn.network.elias_fano import elias_fano
from impress_learn.network.graph_functions import DOMAIN, LEAST_OPSET, functions
from impress_learn.network.graph_nodes import Nodes
from impress_learn.network.probe import probe_images
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks, Network
from impress_learn.training.config import TaskTraining

TASK = "rotated-digits/15"
RANDOM = Masks(masks_per_task=0, random_masks=2)


def made(path: Path, masks: Masks = RANDOM, network: Network | None = None, **parts: Any) -> Path:
    create_bank(path, ["rotated-digits/0"], network=network or Network(), masks=masks)
    add_tasks(path, [TASK], fit=TaskTraining(epochs=1, shots=20), parts=Parts(**{"vote": False, **parts}))
    return path


def weights_in(model: onnx.ModelProto) -> int:
    """Bytes of all float32 numbers in the graph."""
    return sum(len(one.raw_data) for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT)


@pytest.mark.parametrize(
    ("masks", "network", "parts"),
    [
        (RANDOM, None, {"alpha": False, "residual": 2048}),
        (RANDOM, None, {"alpha": False, "residual": 2048, "residual_bits": 4}),
        (RANDOM, None, {}),
        (RANDOM, None, {"granularity": 7, "residual": 800, "residual_bits": 2}),
        (RANDOM, None, {"hybrid": True, "residual": 800, "residual_bits": 8}),
        (Masks(masks_per_task=0, random_masks=3, density=0.5), None, {}),
        (Masks(masks_per_task=1, random_masks=1, mask_type="signed"), None, {}),
        (Masks(masks_per_task=1, mask_type="real"), None, {"residual": 800}),
        (RANDOM, Network(mirror=True), {"residual": 800}),
        (
            replace(RANDOM, allocation="erdos-renyi"),
            Network(backbone="resnet-18-nf4"),
            {"residual": 800},
        ),
        (RANDOM, Network(backbone="timm:test_vit", image_size=32), {"alpha": False, "residual": 800}),
    ],
    ids=[
        "residual",
        "4 bits",
        "alpha",
        "groups",
        "own mask",
        "dense",
        "signed",
        "real",
        "mirrored",
        "resnet",
        "unmasked layers",
    ],
)
def test_it_answers_as_the_bank_does(tmp_path: Path, masks: Masks, network: Network | None, parts: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    bank, file = made(tmp_path / "a.impress", masks, network, **parts), tmp_path / "a.onnx"
    written = export_weights(bank, TASK, file, file_format="onnx-drawn")
    assert written.apart < 1e-4
    model, loaded = onnx.load(file), load_bank(bank)
    onnx.checker.check_model(model, full_check=True)
    images = probe_images(loaded.backbone.spec)
    expected = loaded.module(TASK)(images).detach().numpy()
    (logits,) = onnxruntime.InferenceSession(file).run(["logits"], {"images": images.numpy()})
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    weights = sum(layer.size for layer in loaded.backbone.spec.layers)
    assert weights_in(model) < (0.6 if masks.mask_type == "real" else 0.2) * weights  # of 4 bytes each


def test_a_graph_of_a_residual_takes_twelve_kilobytes(tmp_path: Path) -> None:
    bank, file = made(tmp_path / "a.impress", alpha=False, residual=32_768), tmp_path / "a.onnx"
    assert export_weights(bank, TASK, file, file_format="onnx-drawn").bytes <= 12_000


def test_a_mask_takes_less_than_a_bit_a_weight(tmp_path: Path) -> None:
    sizes = []
    for count in (2, 4):
        masks = Masks(masks_per_task=0, random_masks=count)
        bank = made(tmp_path / f"{count}.impress", masks, signature=False)
        sizes.append(export_weights(bank, TASK, tmp_path / f"{count}.onnx", file_format="onnx-drawn").bytes)
    assert (sizes[1] - sizes[0]) / 2 < 0.55 * 266_200 / 8


def test_a_runtime_draws_once_and_not_for_every_image(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    bank, file = made(tmp_path / "a.impress", residual=800), tmp_path / "a.onnx"
    export_weights(bank, TASK, file, file_format="onnx-drawn")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(file, options)
    left = [node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node]
    assert sorted(set(left)) == ["Gemm", "Relu", "Reshape"]
    assert len(left) == 6


def called(name: str, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    """What one of the functions makes."""
    values = [
        onnx.helper.make_tensor_value_info(one, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for one, array in inputs.items()
    ]
    made = [onnx.helper.make_empty_tensor_value_info(one) for one in outputs]
    node = onnx.helper.make_node(name, list(inputs), outputs, domain=DOMAIN)
    opsets = [onnx.helper.make_opsetid("", LEAST_OPSET), onnx.helper.make_opsetid(DOMAIN, 1)]
    graph = onnx.helper.make_graph([node], "g", values, made)
    model = onnx.helper.make_model(graph, functions=functions(LEAST_OPSET, [name]), opset_imports=opsets)
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(model).run(None, inputs)
    return [np.asarray(one) for one in found]


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 40)), min_size=1, max_size=4))
def test_the_words_are_those_of_numpys_philox(streams: list[tuple[int, int]]) -> None:
    blocks = [count for _, count in streams]
    inputs = {
        "keys": np.stack([substream_key(seed, "some layer") for seed, _ in streams]),
        "starts": np.cumsum([0, *blocks[:-1]]),
        "blocks": np.array(sum(blocks)),
    }
    (words,) = called("Words", inputs, ["words"])
    assert np.array_equal(words, np.concatenate([random_words(seed, "some layer", 4 * n) for seed, n in streams]))


@given(st.integers(1, 400).flatmap(lambda end: st.tuples(st.just(end), st.sets(st.integers(0, end - 1), min_size=1))))
def test_positions_come_back_from_their_code(given: tuple[int, set[int]]) -> None:
    end, positions = given
    coded = elias_fano(np.array(sorted(positions)), end)
    inputs = {
        "unary": coded.unary,
        "unaryend": np.array([8 * len(coded.unary)]),
        "low": coded.low,
        "lowend": np.array([coded.ones * coded.bits]),
        "powers": 2 ** np.arange(coded.bits),
        "base": np.array(2**coded.bits),
        "ones": np.array([coded.ones]),
    }
    (places,) = called("Ones", inputs, ["places"])
    assert places.tolist() == sorted(positions)


def test_only_functions_that_are_called_are_in_the_graph() -> None:
    assert [one.name for one in functions(LEAST_OPSET, ["Places"])] == ["Places"]
    assert [one.name for one in functions(LEAST_OPSET, ["Bits"])] == ["Fields", "Bits"]


def test_what_is_not_drawn_is_refused(tmp_path: Path) -> None:
    for parts, network, said in (
        ({}, Network(init="kaiming-normal"), "signed constants"),
        ({"vote": True}, None, "has a vote, which is not drawn"),
    ):
        bank = made(tmp_path / f"{len(said)}.impress", network=network, **dict[str, Any](parts))
        with pytest.raises(UsageError, match=said):
            export_weights(bank, TASK, tmp_path / "a.onnx", file_format="onnx-drawn")
    assert not (tmp_path / "a.onnx").exists()


def test_what_the_exporter_did_to_weights_is_seen() -> None:
    weights = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    factors = np.array([2.0, -0.5, 3.0], dtype=np.float32)
    assert _factors(weights, weights) is None
    found = _factors(weights * factors[:, np.newaxis], weights)
    assert found is not None
    assert np.allclose(found, factors)
    for other in (weights.T.copy(), weights + 1):
        with pytest.raises(ExportFailed, match="otherwise than as they are"):
            _factors(other, weights)


def test_a_mask_whose_ones_are_in_rows_that_do_not_answer_is_drawn_as_nothing() -> None:
    to = Nodes()
    _mask(to, np.zeros(40, dtype=np.bool_))
    assert [node.op_type for node in to.nodes] == ["Expand"]
