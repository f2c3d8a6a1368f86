"""Banks made to harm: each file here carries a right checksum, so that the check it is about is what refuses it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
import zstandard
from safetensors.numpy import load

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.bank_files.calibration import CalibrationRecord
from impress_format.container.codec import encode_mask, pack_bits
from impress_format.container.sealed_file import seal_tensors
from impress_format.container.strict_json import check_json
from impress_format.disk.locks import exclusive
from impress_format.errors import FormatError, StorageError, UsageError
from impress_format.limits import MAX_CALIBRATION_BYTES, MAX_HEADER_BYTES, MAX_WEIGHTS
from impress_format.operations.verify import Problem
from impress_format.tasks.record import version_1

HUGE = 10**400
CHECKSUM_IN_HEADER, CHECKSUM_IN_JSON = rb"\"digest\":\"", b'"digest": "'
CHECKSUM_IN_TEXT = rb'"impress":"[\"'


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress", calibration=True, task_classifier=True)


def with_checksum(content: bytes, start: int) -> bytes:
    digest = hashlib.sha256(content[:start] + b"0" * 32 + content[start + 32 :]).hexdigest()[:32]
    return content[:start] + digest.encode() + content[start + 32 :]


def manifest_with(old: str, new: str) -> Callable[[bytes], bytes]:
    """bank.json with one place of its text replaced, and the checksum made right."""

    def change(content: bytes) -> bytes:
        assert old in content.decode()
        changed = content.decode().replace(old, new, 1).encode()
        return with_checksum(changed, changed.rfind(CHECKSUM_IN_JSON) + len(CHECKSUM_IN_JSON))

    return change


def file_of(header: bytes, body: bytes) -> bytes:
    content = len(header).to_bytes(8, "little") + header + body
    marker = CHECKSUM_IN_TEXT if CHECKSUM_IN_TEXT in content else CHECKSUM_IN_HEADER
    return with_checksum(content, content.find(marker) + len(marker))


def split(content: bytes) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def header_with(old: str, new: str, *, tail: bytes = b"") -> Callable[[bytes], bytes]:
    """A safetensors file with one place of its header replaced; in the record quotes are written \\"."""

    def change(content: bytes) -> bytes:
        header, body = split(content)
        assert old in header.decode()
        return file_of(header.decode().replace(old, new, 1).encode(), body + tail)

    return change


def record_with(old: str, new: str) -> Callable[[bytes], bytes]:
    return header_with(old.replace('"', '\\"'), new.replace('"', '\\"'))


def tensors_with(new: Mapping[str, np.ndarray]) -> Callable[[bytes], bytes]:
    """A safetensors file with the same record and other tensors."""

    def change(content: bytes) -> bytes:
        fields = {"__metadata__": json.loads(split(content)[0])["__metadata__"]}
        body = b""
        for name, array in new.items():
            dtype = {"u1": "U8", "f2": "F16", "f4": "F32", "f8": "F64", "i4": "I32"}[array.dtype.str[1:]]
            offsets = [len(body), len(body) + array.nbytes]
            fields[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
            body += array.tobytes()
        return file_of(json.dumps(fields, separators=(",", ":")).encode(), body)

    return change


def int8_alpha(values: list[list[int]], scales: list[float]) -> Callable[[bytes], bytes]:
    """A task file with one mask's coefficients as int8."""
    with np.errstate(over="ignore"):
        stored = np.array(values, np.int8).tobytes() + np.array(scales, "<f2").tobytes()
    return tensors_with({"alpha": np.frombuffer(stored, np.uint8)})


def frame_of(content: bytes) -> np.ndarray:
    return np.frombuffer(zstandard.compress(content), dtype=np.uint8)


def masks_with(frame: np.ndarray) -> Callable[[bytes], bytes]:
    """A mask file whose layer a.weight is another frame."""
    other = np.frombuffer(encode_mask(small_bank.mask(0)["b.weight"]), dtype=np.uint8)
    return tensors_with({"a.weight": frame, "b.weight": other})


def recogniser_with(**tensors: np.ndarray | None) -> Callable[[bytes], bytes]:
    """A recogniser file with some of its tensors replaced, or left out."""

    def change(content: bytes) -> bytes:
        kept = {name: array for name, array in (load(content) | tensors).items() if array is not None}
        return tensors_with(dict(sorted(kept.items(), key=lambda item: -item[1].itemsize)))(content)

    return change


SIGNATURE = np.arange(64, dtype=np.uint8)
PLAIN = bytes(5 + 7) + pack_bits(small_bank.mask(0)["a.weight"])
PADDED = PLAIN[:-1] + bytes([PLAIN[-1] | 0x80])
ALPHA = '"alpha":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}'
OFFSETS, SHAPE, FIT = '"data_offsets":[0,16]', '"shape":[2,2]', "[3,0.03]"

MANIFEST, MASK, TASK = "bank.json", "masks/00000.safetensors", "tasks/one.safetensors"
CALIBRATION, TASK_CLASSIFIER = "calibration.safetensors", "recogniser.safetensors"

THEIRS = '"classes": 3, "pretrained": {"source": "SOURCE", "tensors": {TENSORS}}'


def on_weights(source: str, tensors: str) -> Callable[[bytes], bytes]:
    """A manifest of a network on weights that others trained."""
    return manifest_with('"classes": 3', THEIRS.replace("SOURCE", source).replace("TENSORS", tensors))


HOSTILE: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    # JSON that two readers may read differently, or that takes more than it seems
    ("a key twice", MANIFEST, manifest_with('"classes": 3', '"classes": 3, "classes": 4'), "'classes' twice"),
    ("a key twice, deep", MANIFEST, manifest_with('"lr": 4.0', '"lr": 4.0, "lr": 1'), "'lr' twice"),
    ("a key in escapes", MANIFEST, manifest_with('"classes": 3', '"classes": 3, "cl\\u0061sses": 4'), "escapes"),
    ("deep JSON", MANIFEST, manifest_with('"classes": 3', f'"classes": {"[" * 50}{"]" * 50}'), "deeper than 8"),
    ("a long text", MANIFEST, manifest_with("lenet-300-100", "x" * 5000), "longer than"),
    ("a huge integer", MANIFEST, manifest_with('"classes": 3', f'"classes": {HUGE}'), "classes"),
    ("a huge float", MANIFEST, manifest_with('"lr": 4.0', '"lr": 1e999'), "out of range"),
    ("a huge version", MANIFEST, manifest_with('"format_version": 2', f'"format_version": {HUGE}'), "format_version"),
    (
        "version 2 without what it says beyond 1",
        MANIFEST,
        manifest_with('"seed": 0,\n  "pre', '"seed": null,\n  "pre'),
        "null",
    ),
    (
        "version 1 with what only 2 says",
        MANIFEST,
        manifest_with('"format_version": 2', '"format_version": 1'),
        "made_with",
    ),
    ("another shape after preprocessing", MANIFEST, manifest_with('"mode": "L"', '"mode": "RGB"'), "preprocess gives"),
    ("an unknown mode", MANIFEST, manifest_with('"mode": "L"', '"mode": "CMYK"'), "mode"),
    ("a release that is no version", MANIFEST, manifest_with('"torch": "2.6.0"', '"torch": "2 6"'), "torch"),
    ("a mean too many", MANIFEST, manifest_with('"mean": [\n      0.25', '"mean": [\n      0.25, 0.5'), "2 means"),
    ("a class name too few", MANIFEST, manifest_with('"class 1",', ""), "names 2 classes"),
    ("NaN", MANIFEST, manifest_with('"lr": 4.0', '"lr": NaN'), "invalid"),
    ("an unknown field", MANIFEST, manifest_with('"classes": 3', '"classes": 3, "note": 4'), "note"),
    ("no UTF-8", MANIFEST, lambda content: content.replace(b"lenet", b"\xff\xfenet"), "utf-8"),
    ("text after the end", MANIFEST, lambda content: content + b"{}", "trailing"),
    # weights that others trained
    ("weights of no tensor", MANIFEST, on_weights("file:a", ""), "tensors"),
    ("weights of a short digest", MANIFEST, on_weights("file:a", '"a": "12"'), "tensors"),
    ("weights from another folder", MANIFEST, on_weights("file:../../a", f'"a": "{64 * "0"}"'), "source"),
    ("weights from anywhere", MANIFEST, on_weights("https://example.org/a", f'"a": "{64 * "0"}"'), "source"),
    ("weights and calibration", MANIFEST, on_weights("file:a", f'"a": "{64 * "0"}"'), "statistics of its own"),
    # a manifest that promises what no bank has
    ("a layer of no weights", MANIFEST, manifest_with("5,\n          7", "5,\n          0"), "shape"),
    ("a layer of negative size", MANIFEST, manifest_with("5,\n          7", "-5,\n          -7"), "shape"),
    ("an axis too long", MANIFEST, manifest_with("5,\n          7", f"1,\n          {2**24 + 1}"), "shape"),
    ("too many weights", MANIFEST, manifest_with("5,\n          7", f"{2**20},\n          {2**20}"), "weights"),
    ("too many axes", MANIFEST, manifest_with("5,\n          7", "1," * 8 + "7"), "shape"),
    ("two layers of one name", MANIFEST, manifest_with("b.weight", "a.weight"), "one name"),
    ("a layer name with a line break", MANIFEST, manifest_with("b.weight", "b\\nweight"), "name"),
    ("an input too large", MANIFEST, manifest_with("1,\n      1,\n      7", f"{2**13},\n{2**13},\n7"), "input"),
    ("no classes", MANIFEST, manifest_with('"classes": 3', '"classes": 0'), "classes"),
    ("a negative seed", MANIFEST, manifest_with('"seed": 0', '"seed": -1'), "seed"),
    ("a density of 2", MANIFEST, manifest_with('"density": 0.2', '"density": 2.0'), "density"),
    ("no epochs", MANIFEST, manifest_with('"epochs": 1', '"epochs": 0'), "epochs"),
    ("a holdout of everything", MANIFEST, manifest_with('"holdout": 0.0', '"holdout": 1.0'), "holdout"),
    ("a task that clears the screen", MANIFEST, manifest_with("rotated-digits/0", "\\u001b[2J"), "task"),
    ("a task written backwards", MANIFEST, manifest_with("rotated-digits/0", "\u202edigits"), "task"),
    ("a digest in capitals", MANIFEST, lambda content: content.replace(b"a", b"A"), "version"),
    # the container
    ("a key twice", TASK, header_with(ALPHA, f"{ALPHA},{ALPHA}"), "'alpha' twice"),
    ("the metadata twice", TASK, header_with(ALPHA, f'{ALPHA},"__metadata__":{{}}'), "'__metadata__' twice"),
    ("other metadata", TASK, header_with('{"impress":', '{"note":"","impress":'), "metadata"),
    ("a record key twice", MASK, record_with('"index":0', '"index":0,"index":0'), "'index' twice"),
    ("a field twice within", MASK, record_with('"epochs":1', '"epochs":1,"epochs":4'), "'epochs' twice"),
    ("a hole before", TASK, header_with(OFFSETS, '"data_offsets":[4,20]', tail=bytes(4)), "starts at byte 4"),
    ("bytes left over", TASK, header_with(ALPHA, ALPHA, tail=b"\0"), "81 bytes"),
    ("an overlap", TASK, header_with(ALPHA, f"{ALPHA},{ALPHA.replace('alpha', 'beta')}"), "overlap"),
    ("offsets beyond the end", TASK, header_with(OFFSETS, '"data_offsets":[0,32]'), "takes 32 bytes"),
    ("offsets that fall", TASK, header_with(OFFSETS, '"data_offsets":[16,0]'), "starts at byte 16"),
    ("a negative offset", TASK, header_with(OFFSETS, '"data_offsets":[-16,0]'), "int"),
    ("a huge shape", TASK, header_with(SHAPE, f'"shape":[{2**40},{2**40}]'), "alpha"),
    ("a shape beyond integers", TASK, header_with(SHAPE, f'"shape":[{HUGE}]'), "int"),
    ("an empty tensor", TASK, tensors_with({"alpha": np.zeros((0, 2), np.float32)}), "shape"),
    ("doubles", TASK, tensors_with({"alpha": np.zeros((2, 2))}), "F64"),
    ("integers", TASK, tensors_with({"alpha": np.zeros((2, 2), np.int32)}), "I32"),
    ("a field unknown", TASK, header_with('"dtype"', '"note":1,"dtype"'), "note"),
    ("a header too long", CALIBRATION, header_with('"dtype"', " " * MAX_HEADER_BYTES + '"dtype"'), "a header of"),
    ("too many tensors", TASK, tensors_with({f"t{i}": np.zeros(1, np.uint8) for i in range(4097)}), "4,097 tensors"),
    ("a header length past the end", TASK, lambda content: b"\xff" * 8 + content[8:], "cut short"),
    ("a pickle", TASK, lambda content: b"\x80\x04cos\nsystem\n(S'true'\ntR.", "cut short"),
    # tasks
    ("NaN", TASK, tensors_with({"alpha": np.array([[np.nan, 0], [0, 0]], np.float32)}), "NaN"),
    ("infinity", TASK, tensors_with({"alpha": np.array([[0, -np.inf], [0, 0]], np.float32)}), "NaN or infinite"),
    ("more rows than masks", TASK, tensors_with({"alpha": np.zeros((4, 2), np.float32)}), "4 masks"),
    ("bytes of two axes", TASK, tensors_with({"alpha": np.zeros((2, 2), np.uint8)}), "uint8 (2, 2)"),
    ("scales without numbers", TASK, tensors_with({"alpha": np.zeros(4, np.uint8)}), "uint8 (4,)"),
    ("half a column", TASK, tensors_with({"alpha": np.zeros(7, np.uint8)}), "uint8 (7,)"),
    ("-128", TASK, int8_alpha([[-128, 0]], [1, 1]), "-128"),
    ("a negative scale", TASK, int8_alpha([[1, 0]], [1, -1]), "negative"),
    ("a scale of NaN", TASK, int8_alpha([[1, 0]], [1, np.nan]), "NaN"),
    ("an infinite scale", TASK, int8_alpha([[1, 0]], [np.inf, 1]), "infinite"),
    ("another tensor", TASK, tensors_with({"beta": np.zeros((2, 2), np.float32)}), "beta"),
    ("one more tensor", TASK, tensors_with({"alpha": small_bank.ALPHA, "beta": small_bank.ALPHA}), "beta"),
    ("a version to come", TASK, record_with(",2,", ",3,"), "$[1]"),
    ("a path for a name", TASK, record_with('"one"', '"../one"'), "no task may be called"),
    ("another name", TASK, record_with('"one"', '"two"'), "two"),
    (
        "no name where none can be made",
        TASK,
        record_with('rotated-digits/1",0.9,0.95,"one"', 'a:b",0.9,0.95,null'),
        "no name",
    ),
    ("granularity 0", TASK, record_with(FIT, f"{FIT},0"), "$[8]"),
    ("granularity beyond any axis", TASK, record_with(FIT, f"{FIT},{2**24 + 1}"), "$[8]"),
    ("bits of a head that has none", TASK, record_with(FIT, f"{FIT},1,0,2"), "value of its head takes 2 bits"),
    ("classes without a head", TASK, record_with(FIT, f"{FIT},1,0,0,0,3"), "or a head to tell them apart"),
    ("more than a record has", TASK, record_with(FIT, f"{FIT},1,1,1,1,1,4,1,1"), "length 15"),
    ("accuracy of 200 %", TASK, record_with("0.9,", "2.0,"), "$[3]"),
    ("accuracy null", TASK, record_with("0.9,", "null,"), "no accuracy"),
    ("no shots", TASK, record_with(FIT, "[3,0.03,0,128,0.0,0.0,0]"), "$[7][6]"),
    ("a learning rate of 0", TASK, record_with(FIT, "[3,0]"), "$[7][1]"),
    ("a negative l1", TASK, record_with(FIT, "[3,0.03,0,128,-1]"), "$[7][4]"),
    # masks
    ("a zstd bomb", MASK, masks_with(frame_of(bytes(1 << 26))), "declares 67108864"),
    ("bytes after a frame", MASK, masks_with(np.append(frame_of(PLAIN), np.uint8(0))), "follow"),
    ("padding bits", MASK, masks_with(frame_of(PADDED)), "padding"),
    ("one more one", MASK, masks_with(frame_of(bytes(12) + b"\xff" * 4 + b"\x01")), "expected 7 ones"),
    ("a class out of range", MASK, masks_with(frame_of(b"\x7f" + PLAIN[1:])), "class"),
    ("floats for a frame", MASK, masks_with(np.zeros(4, np.float32)), "row of bytes"),
    ("a frame of two axes", MASK, masks_with(np.zeros((4, 4), np.uint8)), "row of bytes"),
    ("a layer missing", MASK, tensors_with({"a.weight": frame_of(PLAIN)}), "expected the backbone's 2 layers"),
    ("other ones", MASK, record_with('"ones":[7,3]', '"ones":[8,3]'), "ones"),
    ("too few layers of ones", MASK, record_with('"ones":[7,3]', '"ones":[7]'), "ones"),
    ("another index", MASK, record_with('"index":0', '"index":1'), "planned"),
    ("bits that are no digest", MASK, record_with('"bits":"', '"bits":"x'), "bits"),
    ("a signature that is too short", MASK, record_with('"signature":"', '"signature":"00'), "signature"),
    # signatures and the recogniser
    ("a short signature", TASK, tensors_with({"alpha": small_bank.ALPHA, "signature": SIGNATURE[:-1]}), "64 bytes"),
    ("two of them", TASK, tensors_with({"alpha": small_bank.ALPHA, "signature": SIGNATURE[None]}), "64 bytes"),
    (
        "one of floats",
        TASK,
        tensors_with({"signature": np.ones(64, np.float32), "alpha": small_bank.ALPHA}),
        "64 bytes",
    ),
    ("one of another bank", TASK, tensors_with({"alpha": small_bank.ALPHA, "signature": SIGNATURE}), "recogniser"),
    ("a signature alone", TASK, tensors_with({"signature": SIGNATURE}), "expected alpha"),
    ("a residual unasked", TASK, tensors_with({"alpha": small_bank.ALPHA, "residual": SIGNATURE}), "takes 0 bits"),
    ("bits without one", TASK, record_with(FIT, "[3,0.03],1,4"), "takes 4 bits, and has none"),
    ("bits that there are not", TASK, record_with(FIT, "[3,0.03],1,3"), "3"),
    ("an unknown part", TASK, tensors_with({"alpha": small_bank.ALPHA, "head": SIGNATURE}), "holds ['alpha', 'head']"),
    ("a weight above 1", TASK_CLASSIFIER, record_with('"sign_weight":0.25', '"sign_weight":1.5'), "sign_weight"),
    ("another backbone", TASK_CLASSIFIER, record_with('"backbone":"', '"backbone":"0'), "backbone"),
    ("version 1", TASK_CLASSIFIER, record_with('"format_version":2', '"format_version":1'), "format_version"),
    ("nothing", TASK_CLASSIFIER, recogniser_with(center=None), "center float16 (7,), hidden"),
    ("other features", TASK_CLASSIFIER, recogniser_with(center=np.ones(8, np.float16)), "center float16 (8,)"),
    ("other types", TASK_CLASSIFIER, recogniser_with(between=np.ones(1, np.float16)), "between float16"),
    ("a scale of 0", TASK_CLASSIFIER, recogniser_with(scale=np.zeros(7, np.float16)), "scale holds"),
    ("no number", TASK_CLASSIFIER, recogniser_with(output=np.full((2, 1), np.nan, np.float32)), "output holds"),
    ("no variance", TASK_CLASSIFIER, recogniser_with(between=np.zeros(1, np.float32)), "between holds"),
    ("a weight of -8", TASK_CLASSIFIER, recogniser_with(hidden=np.zeros((7, 1), np.uint8)), "holds -8"),
    ("half a network", TASK_CLASSIFIER, recogniser_with(output_bias=None), "expected between"),
    ("no position", TASK_CLASSIFIER, recogniser_with(between=None), "0 positions"),
    ("too many positions", TASK_CLASSIFIER, recogniser_with(between=np.ones(25, np.float32)), "25 positions"),
    ("an odd one", TASK_CLASSIFIER, recogniser_with(hidden_bias=np.ones(3, np.float32)), "3 hidden units"),
    # calibration
    ("another number of axes", CALIBRATION, tensors_with({"pixels": np.zeros((4, 7), np.uint8)}), "pixels"),
    ("other sides", CALIBRATION, tensors_with({"pixels": np.zeros((4, 1, 7, 1), np.uint8)}), "pixels"),
    ("floats", CALIBRATION, tensors_with({"pixels": np.zeros((4, 1, 1, 7), np.float32)}), "float32"),
    ("another tensor", CALIBRATION, tensors_with({"x": small_bank.PIXELS, "pixels": small_bank.PIXELS}), "one tensor"),
    ("no deviation", CALIBRATION, record_with('"std":[0.5]', '"std":[0.0]'), "std"),
    ("two means", CALIBRATION, record_with('"mean":[0.25]', '"mean":[0.25,0.25]'), "mean"),
    ("no mean", CALIBRATION, record_with('"mean":[0.25]', '"mean":[]'), "mean"),
]


@pytest.mark.parametrize(
    ("file", "change", "words"), [case[1:] for case in HOSTILE], ids=[f"{case[1]}: {case[0]}" for case in HOSTILE]
)
def test_verify_names_the_file_and_what_is_wrong_with_it(
    bank: Bank, file: str, change: Callable[[bytes], bytes], words: str
) -> None:
    content = (bank.path / file).read_bytes()
    content = small_bank.in_long_form(content) if file == TASK else content  # the short form: test_short_form.py
    (bank.path / file).write_bytes(change(content))
    errors = {problem.file: problem.error for problem in verify_bank(bank.path).problems}
    assert words.casefold() in errors[file].casefold()
    assert "checksum" not in errors[file]


@pytest.mark.parametrize("file", [MANIFEST, MASK, CALIBRATION])
def test_a_file_without_its_checksum_is_refused(bank: Bank, file: str) -> None:
    path = bank.path / file
    content = path.read_bytes()
    if file == MANIFEST:
        cut = content.rfind(b",\n  " + CHECKSUM_IN_JSON)
        path.write_bytes(content[:cut] + b"\n}\n")
    else:
        header, body = split(content)
        start = header.find(b"," + CHECKSUM_IN_HEADER)
        header = header[:start] + header[start + len(CHECKSUM_IN_HEADER) + 1 + 32 + 2 :]
        path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    assert Problem(file, "holds no checksum where one must be") in verify_bank(bank.path).problems


def peak_of_verify(bank: Bank) -> tuple[int, str]:
    """MiB that a process of its own takes to verify the bank, and what it prints."""
    script = (
        "import sys; from impress_format import verify_bank\n"
        "print(verify_bank(sys.argv[1]).problems[0].error)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", script, bank.path], capture_output=True, text=True, check=True)
    error, peak = done.stdout.splitlines()
    return int(peak) >> 10, error


LAYER, PLAN = b'{"name":"a","shape":[1]},', b'{"kind":"random","task":null,"density":1,"seed":0,"fit":null},'
SIZE = 60 << 20


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"layers": [', LAYER * (SIZE // len(LAYER)), "times {"),
        (b'"masks": [', PLAN * 100_001, "length <= 100000"),
        (b'"input_shape": [', b"1," * 1_200_000, "length 3"),
        (b'"input_shape": [', b"1," * (SIZE // 2), "times ,"),
        (b'"arch": "', b"x" * SIZE + "\N{GRINNING FACE}".encode(), "longer than"),
        (b'"arch": "', rb"\n" * (SIZE // 2), "times \\"),
        (b'"arch": "', rb"\"" * (SIZE // 2), 'times "'),
        (b'"arch": ', b"[" * SIZE, "recursion"),
        (b'"classes": ', b" " * (SIZE + (8 << 20)), "this file may have"),
    ],
    ids=[
        "layers",
        "masks",
        "numbers",
        "more numbers",
        "a text of wide characters",
        "escapes",
        "quotes",
        "brackets",
        "spaces",
    ],
)
def test_a_manifest_of_hostile_size_takes_bounded_memory(bank: Bank, old: bytes, new: bytes, words: str) -> None:
    content = bank.manifest_path.read_bytes()
    assert old in content
    bank.manifest_path.write_bytes(content.replace(old, old + new, 1))
    peak, error = peak_of_verify(bank)
    assert words in error
    assert peak < 256


def test_a_bomb_takes_no_more_memory_than_a_mask(bank: Bank) -> None:
    path = bank.path / MASK
    path.write_bytes(masks_with(frame_of(bytes(1 << 29)))(path.read_bytes()))
    peak, error = peak_of_verify(bank)
    assert "declares 536870912" in error
    assert peak < 128


def test_a_file_larger_than_its_kind_may_be_is_refused_unread(bank: Bank) -> None:
    for file in (MASK, TASK, CALIBRATION):
        with open(bank.path / file, "r+b") as sparse:
            sparse.truncate(1 << 40)
    peak, _ = peak_of_verify(bank)
    named = {problem.file for problem in verify_bank(bank.path).problems}
    assert {MASK, TASK, CALIBRATION} <= named
    assert peak < 128


def test_a_network_of_hostile_size_is_refused_before_it_is_drawn(tmp_path: Path) -> None:
    layers = tuple(
        msgspec.structs.replace(small_bank.LAYERS[0], name=f"l{i}", shape=(1 << 12, 1 << 12)) for i in range(65)
    )
    assert sum(layer.size for layer in layers) > MAX_WEIGHTS
    bank = small_bank.make(tmp_path / "a.impress")
    text = json.loads(bank.manifest_path.read_text())
    text["backbone"]["layers"] = [{"name": layer.name, "shape": layer.shape} for layer in layers]
    content = json.dumps(text, indent=2).encode() + b"\n"
    bank.manifest_path.write_bytes(with_checksum(content, content.rfind(CHECKSUM_IN_JSON) + len(CHECKSUM_IN_JSON)))
    (problem,) = verify_bank(bank.path).problems
    assert "weights" in problem.error


def put_link(path: Path, outside: Path) -> None:
    path.rename(outside)
    path.symlink_to(outside)


def put_pipe(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def put_device(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def put_loop(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("put", [put_link, put_pipe, put_folder, put_device, put_loop])
@pytest.mark.parametrize("file", [MANIFEST, MASK, TASK, CALIBRATION])
def test_what_is_no_plain_file_is_refused_without_waiting(
    bank: Bank, tmp_path: Path, file: str, put: Callable[[Path, Path], None]
) -> None:
    put(bank.path / file, tmp_path / "outside")
    errors = {problem.file: problem.error for problem in verify_bank(bank.path).problems}
    assert "not a plain file" in errors[file]


@pytest.mark.parametrize("folder", ["masks", "tasks"])
def test_a_folder_that_leads_out_of_the_bank_is_refused(bank: Bank, tmp_path: Path, folder: str) -> None:
    put_link(bank.path / folder, tmp_path / "outside")
    assert verify_bank(bank.path).problems == (Problem(folder, "is a link, not a folder of its own"),)
    with pytest.raises(FormatError, match="is a link"):
        open_bank(bank.path)


def test_a_lock_that_leads_out_of_the_bank_is_refused_and_its_target_left_alone(bank: Bank, tmp_path: Path) -> None:
    (bank.path / ".lock").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="not a plain file"), exclusive(bank.path, wait=False):
        pass
    assert not (tmp_path / "outside").exists()
    (bank.path / ".lock").unlink()
    os.mkfifo(bank.path / ".lock")
    with pytest.raises(StorageError, match="not a plain file"), exclusive(bank.path, wait=False):
        pass


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        (b"-rf.safetensors", "-rf.safetensors"),
        (b"a b.safetensors", "a b.safetensors"),
        (b"x\n.safetensors", r"x\n.safetensors"),
        (b"\x1b[2J.safetensors", r"\x1b[2J.safetensors"),
        (b"\xff.safetensors", r"\udcff.safetensors"),
        (b"y" * 101 + b".safetensors", "y" * 101 + ".safetensors"),
    ],
)
def test_an_odd_file_name_is_reported_and_fit_to_print(bank: Bank, name: bytes, printed: str) -> None:
    (bank.path / "tasks" / os.fsdecode(name)).write_bytes(b"")
    (problem,) = verify_bank(bank.path).problems
    assert problem == Problem(f"tasks/{printed}", "does not belong in a bank")
    problem.file.encode()
    assert bank.task_names() == ["one", "two"]


def test_folders_of_any_depth_are_reported_once(bank: Bank) -> None:
    folder = os.open(bank.path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=folder)
        inner = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        assert verify_bank(bank.path).problems == (Problem("deep", "does not belong in a bank"),)
    finally:
        subprocess.run(["rm", "-rf", bank.path], check=True)  # too deep for pytest to clear away


def test_no_file_is_written_that_no_reader_takes(bank: Bank) -> None:
    record = small_bank.task_record(bank, "new", "rotated-digits/5")
    for changed in (
        {"accuracy": 1.5},
        {"settings": small_bank.settings(granularity=0)},
        {"task": "a\nb"},
        {"name": "../x"},
    ):
        with pytest.raises(UsageError, match="cannot be stored"):
            seal_tensors(version_1(msgspec.structs.replace(record, **changed)), {"alpha": small_bank.ALPHA})
    calibration = CalibrationRecord(mean=(0.0,), std=(1.0,), backbone=bank.backbone.digest)
    with pytest.raises(UsageError, match="at most 67,108,864"):
        seal_tensors(calibration, {"pixels": np.zeros(MAX_CALIBRATION_BYTES, dtype=np.uint8)})


@pytest.mark.parametrize(
    "text",
    [
        b'"' + rb"\"" * 60_000,
        b'"' * 300_000,
        b'{"a"' + b" " * 50_000_000,
        b'"' + b"x" * 50_000_000,
        b'""' * 150_000 + b'"',
        b"[" * 10_000,
    ],
    ids=["escaped quotes", "quotes", "spaces", "one long text", "texts", "brackets"],
)
def test_the_scan_of_json_takes_linear_time_and_memory(text: bytes) -> None:
    started = time.process_time()
    tracemalloc.start()
    with contextlib.suppress(FormatError):
        check_json(Path("x"), text, longest=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - started < 10
    assert peak < 16 << 20
