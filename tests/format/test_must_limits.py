"""The limits of docs/format.md, by the numbers of the page: what is over one is refused, whatever else is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
from test_hostile import manifest_with, recogniser_with, record_with
from test_packs import remade

from impress_format import verify_bank
from impress_format.bank import Bank, open_bank
from impress_format.bank_files.projection import PROJECTION, StoredProjection
from impress_format.errors import FormatError
from impress_format.manifest import check_manifest
from impress_format.operations.create import write_plan
from impress_format.operations.pack import pack_tasks
from impress_format.records.manifest import BankManifest
from impress_format.records.network import LayerSpec
from impress_format.tasks.pack import open_pack

MIB = 1 << 20


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", calibration=True, task_classifier=True)


def size_of_a_mask() -> int:
    """1 MiB, and for each layer n // 8 + n + R + C + 1,024 bytes."""
    return MIB + sum(
        rows * columns // 8 + rows * columns + rows + columns + 1024
        for rows, columns in (layer.shape for layer in small_bank.LAYERS)
    )


@pytest.mark.parametrize(
    ("file", "most"),
    [
        ("bank.json", 64 * MIB),
        ("masks/00000.safetensors", size_of_a_mask()),
        ("tasks/one.safetensors", 64 * MIB),
        ("calibration.safetensors", 64 * MIB),
        ("recogniser.safetensors", 4 * MIB),
    ],
)
def test_a_file_may_have_so_many_bytes_and_no_more(bank: Bank, file: str, most: int) -> None:
    """Sparse files of zeros: one byte more is refused for its size, this many for what is in them."""
    for size, refused_for_it in ((most, False), (most + 1, True)):
        with (bank.path / file).open("wb") as sparse:
            sparse.truncate(size)
        errors = {problem.file: problem.error for problem in verify_bank(bank.path).problems}
        assert (errors[file] == f"has {most + 1:,} bytes, this file may have {most:,}") is refused_for_it


def test_so_may_a_projection_and_a_pack(bank: Bank, tmp_path: Path) -> None:
    over = small_bank.over_weights(tmp_path / "b.impress")
    with over.files.path(PROJECTION).open("wb") as sparse:
        sparse.truncate(64 * MIB + 1)
    with pytest.raises(FormatError, match="this file may have 67,108,864"):
        open_bank(over.path).files.read(PROJECTION)
    pack_tasks(bank)
    (pack,) = (bank.path / "packs").iterdir()
    with pack.open("wb") as sparse:
        sparse.truncate(1024 * MIB + 1)
    with pytest.raises(FormatError, match="this file may have 1,073,741,824"):
        open_pack(pack)


def layers_of(count: int, *shape: int) -> tuple[LayerSpec, ...]:
    return tuple(LayerSpec(name=f"l{number}", shape=shape) for number in range(count))


def with_backbone(**changes: object) -> BankManifest:
    planned = small_bank.manifest(plans=())
    return msgspec.structs.replace(planned, backbone=msgspec.structs.replace(planned.backbone, **changes))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (layers_of(4096, 1, 1), None),
        (layers_of(4097, 1, 1), "4,097 layers"),
        (layers_of(1, 1, 1 << 24), None),
        (layers_of(1, 1, (1 << 24) + 1), "shape"),
        (layers_of(1, 0, 1), "shape"),
        (layers_of(64, 1, 1 << 24), None),
        (layers_of(65, 1, 1 << 24), "weights, expected at most 1,073,741,824"),
    ],
    ids=["4,096 layers", "4,097 layers", "an axis of 2^24", "a longer one", "one of 0", "2^30 weights", "more"],
)
def test_a_network_is_so_large_and_no_larger(layers: tuple[LayerSpec, ...], words: str | None) -> None:
    if words is None:
        check_manifest(Path("bank.json"), with_backbone(layers=layers))
    else:
        with pytest.raises(FormatError, match=words):
            check_manifest(Path("bank.json"), with_backbone(layers=layers))


def verified(bank: Bank, file: str, change: Callable[[bytes], bytes]) -> dict[str, str]:
    path = bank.path / file
    path.write_bytes(change(path.read_bytes()))
    return {problem.file: problem.error for problem in verify_bank(bank.path).problems}


SHAPE = "5,\n          7"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"classes": 3', f'"classes": {(1 << 20) + 1}', "`int` <= 1048576 - at `$.backbone.classes`"),
        (SHAPE, "1," * 6 + "5, 7, 1", "length <= 8"),
        ("lenet-300-100", "x" * 1025, "at `$.backbone.arch`"),
        ('"b.weight"', f'"{"x" * 201}"', "at `$.backbone.layers"),
    ],
    ids=["classes", "axes", "a text", "the name of a layer"],
)
def test_a_manifest_says_no_more_than_these(bank: Bank, old: str, new: str, words: str) -> None:
    assert words in verified(bank, "bank.json", manifest_with(old, new))["bank.json"]


@pytest.mark.parametrize(("old", "new"), [("lenet-300-100", "x" * 1024), ('"b.weight"', f'"{"x" * 200}"')])
def test_texts_of_just_this_length_are_read(bank: Bank, old: str, new: str) -> None:
    path = bank.manifest_path
    path.write_bytes(manifest_with(old, new)(path.read_bytes()))
    assert open_bank(bank.path).backbone != bank.backbone


def test_an_input_has_no_more_values_than_2_to_the_24() -> None:
    def check(*shape: int) -> None:
        planned = with_backbone(input_shape=(1, *shape))
        assert planned.preprocess is not None
        seen = msgspec.structs.replace(planned.preprocess, size=shape)
        check_manifest(Path("bank.json"), msgspec.structs.replace(planned, preprocess=seen))

    check(1 << 12, 1 << 12)
    with pytest.raises(FormatError, match="more than 16,777,216 values"):
        check((1 << 12) + 1, 1 << 12)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {
                "hidden": np.full((7, 513), 0x88, np.uint8),
                "hidden_step": np.ones(1026, np.float32),
                "hidden_bias": np.ones(1026, np.float32),
                "output": np.ones((1026, 1), np.float32),
            },
            "1,026 hidden units",
        ),
        (
            {
                "output": np.ones((2, 25), np.float32),
                "output_bias": np.ones(25, np.float32),
                "between": np.ones(25, np.float32),
            },
            "25 positions",
        ),
    ],
    ids=["h", "m"],
)
def test_a_task_classifier_is_no_larger_than_that(bank: Bank, tensors: dict[str, np.ndarray], words: str) -> None:
    assert words in verified(bank, "recogniser.safetensors", recogniser_with(**tensors))["recogniser.safetensors"]


@pytest.mark.parametrize(("columns", "refused"), [(1024, False), (1025, True)])
def test_a_projection_has_no_more_columns_than_1_024(tmp_path: Path, columns: int, refused: bool) -> None:
    layers = (LayerSpec(name="a.weight", shape=(1100, 7)), LayerSpec(name="b.weight", shape=(3, 1100)))
    backbone = msgspec.structs.replace(small_bank.spec(), layers=layers, pretrained=small_bank.THEIRS)
    bank = write_plan(tmp_path / "a.impress", small_bank.plan_of(backbone, ()))
    square = np.zeros((columns, columns), dtype=np.float32)
    projection = StoredProjection(
        mean=np.zeros(1100, dtype=np.float16),
        directions=np.ones((1100, columns), dtype=np.float32),
        within=square,
        between=square,
        tasks=("rotated-digits/0",),
    )
    bank.files.write(PROJECTION, projection)
    if refused:
        with pytest.raises(FormatError, match="no bytes of 1 to 1,024 columns"):
            open_bank(bank.path).files.read(PROJECTION)
    else:
        assert open_bank(bank.path).directions == columns


def test_a_pack_says_that_it_has_no_more_tasks_than_2_to_the_20(bank: Bank) -> None:
    pack_tasks(bank)
    (path,) = (bank.path / "packs").iterdir()
    path.write_bytes(record_with('"tasks":2', f'"tasks":{(1 << 20) + 1}')(path.read_bytes()))
    with pytest.raises(FormatError, match="PackRecord"):
        open_pack(path)


@pytest.mark.parametrize("more", [16_384 - 33, 16_384 - 32])
def test_a_text_of_a_pack_has_no_more_bytes_than_16_384(bank: Bank, more: int) -> None:
    """The last text of a task with spaces after it: too long, or only not as a writer writes it."""
    pack_tasks(bank)

    def longer(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        text, ends = columns["own.text"].tobytes() + b" " * more, columns["own.end"]
        assert int(ends[1] - ends[0]) == 33
        ends[-1] = len(text)
        return {**columns, "own.text": np.frombuffer(text, dtype=np.uint8), "own.end": ends}

    path = remade(bank, longer, short=True)
    (problem,) = verify_bank(bank.path).problems
    assert problem.file == f"packs/{path.name}"
    assert problem.error.startswith("own.text[1] goes from byte") == (more + 33 > 16_384)
