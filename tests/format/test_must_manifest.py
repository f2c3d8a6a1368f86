"""What docs/format.md demands of JSON and of bank.json, where no other test holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
from test_hostile import file_of, manifest_with, record_with, split

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import FormatError, UnsupportedVersion, UsageError
from impress_format.manifest import check_manifest
from impress_format.parts.table import stored_parts
from impress_format.records.fields import is_text
from impress_format.records.training import Elsewhere, TaskTrainingRecord


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", calibration=True, task_classifier=True)


@pytest.mark.parametrize(
    "rest",
    ['"anything": [1, 2]', '"backbone": null, "masks": "of another type"', '"digest": "that is no checksum"'],
)
def test_the_version_is_looked_at_before_anything_else(bank: Bank, rest: str) -> None:
    bank.manifest_path.write_text(f'{{{rest}, "format_version": 3}}')
    with pytest.raises(UnsupportedVersion, match="has format version 3, this release reads up to 2"):
        open_bank(bank.path)


def test_zeros_names_no_layer(bank: Bank) -> None:
    def with_zeros(*names: str) -> None:
        backbone = msgspec.structs.replace(bank.backbone, zeros=names)
        check_manifest(bank.manifest_path, msgspec.structs.replace(bank.manifest, backbone=backbone))

    with_zeros("a.shift")
    with pytest.raises(FormatError, match=r"b\.weight is among the layers that are drawn and among `zeros`"):
        with_zeros("a.shift", "b.weight")


MANIFEST, MASK, TASK = "bank.json", "masks/00000.safetensors", "tasks/one.safetensors"


def refused(bank: Bank, file: str, change: Callable[[bytes], bytes]) -> str:
    """What verify says of a file whose checksum is right again after a change."""
    path = bank.path / file
    content = path.read_bytes()
    path.write_bytes(change(small_bank.in_long_form(content) if file == TASK else content))
    errors = {problem.file: problem.error for problem in verify_bank(bank.path).problems}
    assert "checksum" not in errors[file]
    return errors[file]


@pytest.mark.parametrize(
    ("file", "change", "field"),
    [
        (MANIFEST, manifest_with('"classes": 3', '"classes": 3.0'), "classes"),
        (MANIFEST, manifest_with('"classes": 3', '"classes": 3.5'), "classes"),
        (MANIFEST, manifest_with('"epochs": 1', '"epochs": 1e0'), "epochs"),
        (MASK, record_with('"index":0', '"index":0.0'), "index"),
        (MASK, record_with('"ones":[7,3]', '"ones":[7.0,3]'), "ones"),
        (TASK, record_with("[3,0.03]", "[3.0,0.03]"), "$[7][0]"),
        (TASK, record_with("[3,0.03]", "[3,0.03],1.0"), "$[8]"),
    ],
)
def test_a_fraction_is_no_integer(bank: Bank, file: str, change: Callable[[bytes], bytes], field: str) -> None:
    error = refused(bank, file, change)
    assert "Expected `int`, got `float`" in error
    assert field in error


BEYOND = 2**53
OUT_OF_RANGE: list[tuple[str, str, str, str]] = [
    (MANIFEST, '"seed": 11', f'"seed": {BEYOND}', "seed"),
    (MANIFEST, '"batch_size": 64', '"batch_size": 0', "batch_size"),
    (MANIFEST, '"epochs": 1', f'"epochs": {BEYOND}', "epochs"),
    (MANIFEST, '"lr": 4.0', '"lr": 0.0', "lr"),
    (MANIFEST, '"holdout": 0.0', '"holdout": -0.1', "holdout"),
    (MANIFEST, '"holdout": 0.0', '"holdout": 0.0, "weight_decay": -1.0', "weight_decay"),
    (MANIFEST, '"holdout": 0.0', '"holdout": 0.0, "warmup": -1', "warmup"),
    (MANIFEST, '"holdout": 0.0', '"holdout": 0.0, "threads": 0', "threads"),
    (MANIFEST, '"holdout": 0.0', '"holdout": 0.0, "threads": 1025', "threads"),
    (MANIFEST, '"density": 0.2', '"density": 0.0', "density"),
    (MANIFEST, "      0.25\n", "      1000001.0\n", "mean"),
    (MANIFEST, "      0.25\n", "      -1000001.0\n", "mean"),
    (MANIFEST, '"std": [\n      0.5', '"std": [\n      0.0000009', "std"),
    (MANIFEST, '"std": [\n      0.5', '"std": [\n      1000001.0', "std"),
    (MANIFEST, '"interpolation"', '"crop": 0.0, "interpolation"', "crop"),
    (MANIFEST, '"interpolation"', '"crop": 1.5, "interpolation"', "crop"),
    (MANIFEST, '"interpolation"', '"span": [2.0, 2.0], "interpolation"', "smaller number first"),
    (MASK, '"ones":[7,3]', '"ones":[0,3]', "ones"),
    (MASK, '"accuracy":0.75', '"accuracy":-0.25', "accuracy"),
    (MASK, '"bits":"', '"bits":"A', "bits"),
    (TASK, "[3,0.03]", f"[3,0.03],{2**24 + 1}", "$[8]"),
    (TASK, "[3,0.03]", f"[3,0.03,{BEYOND}]", "$[7][2]"),
    (TASK, "[3,0.03]", "[3,0.03,0,0]", "$[7][3]"),
    (TASK, "[3,0.03]", "[3,0.03,0,128,-0.5]", "$[7][4]"),
    (TASK, "[3,0.03]", "[3,0.03,0,128,0.0,1.0]", "$[7][5]"),
    (TASK, "[3,0.03]", f"[3,0.03,0,128,0.0,0.0,{BEYOND}]", "$[7][6]"),
    (TASK, "[3,0.03]", '[3,0.03,0,128,0.0,0.0,null,"0123"]', "$[7][7]"),
    (TASK, "[3,0.03]", '[3,0.03,0,128,0.0,0.0,null,null,"adam",0.0,0,false,-1]', "$[7][12]"),
    (TASK, "[3,0.03]", "[3,0.03],1,0,0,-1", "$[11]"),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "words"), OUT_OF_RANGE, ids=[f"{one[0]}: {one[2]}" for one in OUT_OF_RANGE]
)
def test_a_field_out_of_its_range_is_refused(bank: Bank, file: str, old: str, new: str, words: str) -> None:
    change = manifest_with(old, new) if file == MANIFEST else record_with(old, new)
    assert words in refused(bank, file, change)


@pytest.mark.parametrize("name", ["b weight", "bé", 'b\\"', "b\\\\", "b\\u007f", "b\\u200b", "", "x" * 201])
def test_a_layer_name_is_visible_ascii(bank: Bank, name: str) -> None:
    assert "name" in refused(bank, MANIFEST, manifest_with('"b.weight"', f'"{name}"'))


FIRST_AND_LAST = [0x00, 0x1F, 0x7F, 0x9F, 0x200B, 0x200F, 0x2028, 0x202E, 0x2060, 0x206F, 0xFEFF, 0xFFF0, 0xFFFF]
TEXTS: dict[str, tuple[str, Callable[[str], Callable[[bytes], bytes]]]] = {
    "the reference of a mask": (MANIFEST, lambda text: manifest_with("rotated-digits/90", text)),
    "the name of a class": (MANIFEST, lambda text: manifest_with("class 1", text)),
    "the architecture": (MANIFEST, lambda text: manifest_with("lenet-300-100", text)),
    "the GPU of a mask": (
        MASK,
        lambda text: record_with(
            '"format_version"',
            '"elsewhere":{"impress":"1","torch":"1","timm":"1","numpy":"1","pillow":"1","cpu":"x","gpu":"'
            + text.replace("\\", "\\\\")
            + '"},"format_version"',
        ),
    ),
    "the processor of a mask": (
        MASK,
        lambda text: record_with(
            '"format_version"',
            '"elsewhere":{"impress":"1","torch":"1","timm":"1","numpy":"1","pillow":"1","cpu":"'
            + text.replace("\\", "\\\\")
            + '","gpu":""},"format_version"',
        ),
    ),
    "the reference of a task": (TASK, lambda text: record_with("rotated-digits/1", text.replace("\\", "\\\\"))),
}


@pytest.mark.parametrize("character", FIRST_AND_LAST, ids=hex)
@pytest.mark.parametrize("field", TEXTS)
def test_no_text_has_characters_that_are_invisible_or_turn_the_writing(bank: Bank, field: str, character: int) -> None:
    file, change = TEXTS[field]
    assert "matching regex" in refused(bank, file, change(f"a\\u{character:04x}b"))


def test_characters_beside_those_are_allowed() -> None:
    beside = [0x20, 0x7E, 0xA0, 0x200A, 0x2010, 0x2027, 0x202F, 0x205F, 0x2070, 0xFEFE, 0xFF00, 0xFFEF, 0x10000]
    assert all(is_text(f"a{chr(character)}b") for character in beside)
    assert not any(is_text(f"a{chr(character)}b") for character in FIRST_AND_LAST)


@pytest.mark.parametrize("gpu", ["", "NVIDIA H200", "\x1b[2J", "a\nb", "\u202egpu", "x" * 101])
def test_a_writer_stores_no_gpu_that_a_reader_refuses(bank: Bank, gpu: str) -> None:
    elsewhere = Elsewhere(impress="1", torch="1", timm="1", numpy="1", pillow="1", cpu="x", gpu=gpu)
    fit = TaskTrainingRecord(epochs=3, lr=0.03, elsewhere=elsewhere)
    record = msgspec.structs.replace(small_bank.task_record(bank, "new", "rotated-digits/5"), fit=fit)
    if gpu in ("", "NVIDIA H200"):
        bank.write_task(record, stored_parts(alpha=small_bank.ALPHA))
        assert small_bank.known(bank.read_task_record("new").fit).elsewhere == elsewhere
    else:
        with pytest.raises(UsageError, match="cannot be stored"):
            bank.write_task(record, stored_parts(alpha=small_bank.ALPHA))


@pytest.mark.parametrize("before", [b" ", b"\n", b"\t"])
def test_a_header_begins_with_its_bracket(bank: Bank, before: bytes) -> None:
    def change(content: bytes) -> bytes:
        header, body = split(content)
        assert json.loads(before + header) == json.loads(header)
        return file_of(before + header, body)

    assert refused(bank, MASK, change) == "is not a safetensors file (no header)"


def test_the_task_that_all_of_this_is_tried_on_is_whole(bank: Bank) -> None:
    path = bank.path / TASK
    path.write_bytes(small_bank.in_long_form(path.read_bytes()))
    assert verify_bank(bank.path).ok
    assert np.array_equal(bank.read_task("one")[1], small_bank.ALPHA)
