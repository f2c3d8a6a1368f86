"""Images of more than 8 bits: their values come out of every kind of file, and one scale for all makes them 8 bits."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from written_images import FLOAT, SIGNED, WHITE_IS_ZERO, pgm, png, tiff

from impress_format import Bank, open_bank
from impress_format.errors import DataError, FormatError
from impress_format.manifest import seal_manifest
from impress_format.records.manifest import Preprocess
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.infer import infer
from impress_learn.plan.asked import Network
from impress_learn.progress import SILENT, Progress
from impress_learn.streams.deep_images import is_deep, read_deep
from impress_learn.streams.load import load_task
from impress_learn.streams.read_image import decode_image
from impress_learn.streams.reference import parse_reference
from impress_learn.streams.span import choose_span, goes_with
from impress_learn.streams.view import photo_view
from impress_learn.training.config import MaskTraining, TaskTraining

Array = npt.NDArray[Any]
SIDE = 8
VIEW = photo_view(SIDE, grey=True)
RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)
COLOURS = RNG.integers(0, 4096, (SIDE, SIDE, 3)).astype(np.uint16)
CLEAR = RNG.integers(0, 65536, (SIDE, SIDE, 4)).astype(np.uint16)
GREY_CLEAR = RNG.integers(0, 65536, (SIDE, SIDE, 2)).astype(np.uint16)
HUGE = TWELVE.astype(np.uint32) + 3_000_000_000
BELOW = TWELVE.astype(np.int16) - 2048
BYTES = RNG.integers(-128, 128, (SIDE, SIDE)).astype(np.int8)
FRACTIONS = RNG.random((SIDE, SIDE)).astype(np.float32)
FIRST = [int(value) for value in COLOURS[0, 0]]

FILES: dict[str, tuple[bytes, Array, Array | None]] = {
    "grey png": (png(TWELVE), TWELVE, None),
    "grey png, one value clear": (png(TWELVE, [int(TWELVE[0, 0])]), TWELVE, TWELVE[0, 0] != TWELVE),
    "colours, png": (png(COLOURS), COLOURS, None),
    "colours, png, one clear": (png(COLOURS, FIRST), COLOURS, (COLOURS[0, 0] != COLOURS).any(-1)),
    "colours and alpha, png": (png(CLEAR), CLEAR[..., :3], CLEAR[..., 3] / 65535),
    "grey and alpha, png": (png(GREY_CLEAR), GREY_CLEAR[..., 0], GREY_CLEAR[..., 1] / 65535),
    "pgm of 65535": (pgm(TWELVE, 65535), TWELVE, None),
    "pgm of 4095": (pgm(TWELVE, 4095), (TWELVE / 4095 * 65535).round(), None),
    "pfm": (b"Pf\n8 8\n-1.0\n" + FRACTIONS[::-1].tobytes(), FRACTIONS, None),
    "tiff, II": (tiff(TWELVE), TWELVE, None),
    "tiff, MM": (tiff(TWELVE, order=">"), TWELVE, None),
    "tiff, deflated": (tiff(TWELVE, deflated=True), TWELVE, None),
    "tiff, on its side": (tiff(TWELVE, orientation=6), np.rot90(TWELVE, -1), None),
    "tiff, white is 0": (tiff(TWELVE, photometric=WHITE_IS_ZERO), 65535 - TWELVE.astype(int), None),
    "tiff, signed 16": (tiff(BELOW, SIGNED), BELOW, None),
    "tiff, signed 16, MM": (tiff(BELOW, SIGNED, order=">"), BELOW, None),
    "tiff, signed 8": (tiff(BYTES, SIGNED), BYTES, None),
    "tiff, signed 32": (tiff(BELOW.astype(np.int32), SIGNED), BELOW, None),
    "tiff, unsigned 32": (tiff(HUGE), HUGE, None),
    "tiff, floats": (tiff(FRACTIONS, FLOAT), FRACTIONS, None),
    "tiff, floats, MM": (tiff(FRACTIONS, FLOAT, order=">"), FRACTIONS, None),
    "tiff, colours": (tiff(COLOURS), COLOURS, None),
    "tiff, colours, MM": (tiff(COLOURS, order=">"), COLOURS, None),
    "tiff, colours, deflated": (tiff(COLOURS, deflated=True), COLOURS, None),
    "tiff, colours, on its side": (tiff(COLOURS, orientation=6), np.rot90(COLOURS, -1), None),
    "tiff, colours and alpha": (tiff(CLEAR), CLEAR[..., :3], CLEAR[..., 3] / 65535),
}

SHADES = np.linspace(0.0, 1.0, SIDE * SIDE).reshape(SIDE, SIDE)
KINDS: dict[str, tuple[Callable[[Array], bytes], tuple[float, float]]] = {
    "12 bits in a png of 16": (lambda v: png((v * 4095).round().astype(np.uint16)), (0, 4095)),
    "12 bits in a png of 16, colours": (
        lambda v: png(np.repeat((v * 4095).round().astype(np.uint16)[..., None], 3, axis=2)),
        (0, 4095),
    ),
    "16 bits": (lambda v: png((v * 65535).round().astype(np.uint16)), (0, 65535)),
    "8 bits in a png of 16": (lambda v: png((v * 255).round().astype(np.uint16)), (0, 255)),
    "floats of 0 ... 1": (lambda v: tiff(v.astype(np.float32), FLOAT), (0, 1)),
    "floats of 0 ... 255": (lambda v: tiff((v * 255).astype(np.float32), FLOAT), (0, 255)),
    "with a sign": (lambda v: tiff((v * 4095 - 1024).round().astype(np.int16), SIGNED), (-1024, 3071)),
    "a narrow band": (lambda v: tiff((v * 2000 + 7000).round().astype(np.uint16)), (7000, 9000)),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test."""
    monkeypatch.setenv("IMPRESS_CACHE", str(tmp_path / "cache"))


def pets(folder: Path, write: Callable[[Array], bytes], *, test: Callable[[Array], bytes] | None = None) -> str:
    """A task of bright cats and dim dogs; the largest value is in both parts, and every third image is a dark one."""
    for part in ("train", "test"):
        for name, flip in (("cat", 1), ("dog", -1)):
            (folder / part / name).mkdir(parents=True)
            for number in range(6):
                image = SHADES[::flip] * (0.05 if number % 3 == 2 else 1.0)
                content = (test if test is not None and part == "test" else write)(image)
                (folder / part / name / f"{number}.tif").write_bytes(content)
    return f"folder:{folder}"


def grey_bank(path: Path, task: str, progress: Progress | None = None) -> Bank:
    network, fit = Network(image_size=SIDE, image_mode="L"), MaskTraining(epochs=1)
    return create_bank(path, [task], network=network, fit=fit, progress=progress or SILENT)


def view_of(bank: Bank) -> Preprocess:
    assert bank.manifest.preprocess is not None
    return bank.manifest.preprocess


def pixels_of(task: str, view: Preprocess) -> torch.Tensor:
    return load_task(parse_reference(task), data_dir=None, view=view).train.pixels_of(slice(None)).int()


# What is in a file


@pytest.mark.parametrize("name", FILES)
def test_the_values_of_a_file_are_read_as_they_are(name: str) -> None:
    content, values, alpha = FILES[name]

    def opened() -> Image.Image:
        return Image.open(io.BytesIO(content))

    with opened() as image:
        assert is_deep(image)
        found = read_deep(image, opened)
    assert np.array_equal(found.values, values)
    assert (found.opacity is None) == (alpha is None)
    if alpha is not None and found.opacity is not None:
        assert np.allclose(found.opacity, alpha, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_no_image_of_8_bits_is_taken_for_more(mode: str) -> None:
    file, image = io.BytesIO(), Image.new("RGB", (SIDE, SIDE), (9, 80, 200)).convert(mode)
    image.save(file, "TIFF" if mode in {"CMYK", "YCbCr"} else "PNG")
    with Image.open(file) as opened:
        assert not is_deep(opened)


def test_transparent_parts_are_black_whatever_is_black() -> None:
    view = msgspec.structs.replace(VIEW, span=(-1000.0, 65535.0))
    seen = decode_image(png(GREY_CLEAR), view)[0].astype(int)
    shown = (GREY_CLEAR[..., 0] + 1000.0) / 66535 * 255 * (GREY_CLEAR[..., 1] / 65535)
    assert np.abs(seen - shown).max() <= 0.5 + 1e-6


def test_colours_come_through_a_pipe_which_can_be_read_once(tmp_path: Path) -> None:
    view = msgspec.structs.replace(VIEW, mode="RGB", mean=(0.5,) * 3, std=(0.5,) * 3, span=(0.0, 4095.0))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(png(COLOURS),))
    writer.start()
    seen = decode_image(tmp_path / "pipe", view)
    writer.join()
    assert np.array_equal(seen, decode_image(png(COLOURS), view))


# One scale


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_comes_out_as_files_of_8_bits_do(kind: str, tmp_path: Path) -> None:
    write, span = KINDS[kind]
    told: list[str] = []
    plain = grey_bank(tmp_path / "plain.impress", pets(tmp_path / "plain", lambda v: png((v * 255).astype(np.uint8))))
    bank = grey_bank(tmp_path / "a.impress", pets(tmp_path / "pets", write), Progress(remark=told.append))
    assert view_of(bank).span == span
    assert any("become black … white" in remark for remark in told)
    expected = pixels_of(f"folder:{tmp_path / 'plain'}", view_of(plain))
    assert (pixels_of(f"folder:{tmp_path / 'pets'}", view_of(bank)) - expected).abs().max() <= 1
    assert view_of(bank).mean == pytest.approx(view_of(plain).mean, abs=0.005)


def test_images_of_8_bits_leave_no_word_of_it_in_the_manifest(tmp_path: Path) -> None:
    bank = grey_bank(tmp_path / "a.impress", pets(tmp_path / "pets", lambda v: png((v * 255).astype(np.uint8))))
    assert b"span" not in bank.manifest_path.read_bytes()


def test_test_images_do_not_count(tmp_path: Path) -> None:
    task = pets(tmp_path / "pets", KINDS["12 bits in a png of 16"][0], test=KINDS["16 bits"][0])
    assert view_of(grey_bank(tmp_path / "a.impress", task)).span == (0, 4095)


def test_infer_reads_images_on_the_scale_of_the_bank(tmp_path: Path) -> None:
    write = KINDS["12 bits in a png of 16"][0]
    bank = grey_bank(tmp_path / "a.impress", pets(tmp_path / "pets", write))
    add_tasks(bank.path, [f"folder:{tmp_path / 'pets'}"], name="pets", fit=TaskTraining(epochs=1))
    dim = (SHADES * 0.5 * 4095).round()
    (tmp_path / "deep.png").write_bytes(png(dim.astype(np.uint16)))
    Image.fromarray((dim / 4095 * 255).round().astype(np.uint8)).save(tmp_path / "plain.png")
    found = infer(bank.path, [tmp_path / "deep.png", tmp_path / "plain.png"], task="pets")
    deep, plain = found.answers
    assert (deep.label, deep.probability) == (plain.label, plain.probability)
    assert found.remarks == ()
    (tmp_path / "other.png").write_bytes(KINDS["16 bits"][0](SHADES))
    (remark,) = infer(bank.path, [tmp_path / "other.png", tmp_path / "deep.png"], task="pets").remarks
    assert "1 image of more than 8 bits with values beyond the 0 … 4,095" in remark


@pytest.mark.parametrize("kind", ["16 bits", "8 bits in a png of 16", "floats of 0 ... 1", "with a sign"])
def test_a_task_on_another_scale_is_refused(kind: str, tmp_path: Path) -> None:
    bank = grey_bank(tmp_path / "a.impress", pets(tmp_path / "pets", KINDS["12 bits in a png of 16"][0]))
    with pytest.raises(DataError, match="the bank takes 0 … 4,095 for black … white: create a bank of these"):
        add_tasks(bank.path, [pets(tmp_path / "others", KINDS[kind][0])], fit=TaskTraining(epochs=1))
    assert bank.task_names() == []


def test_tasks_on_two_scales_cannot_begin_one_bank(tmp_path: Path) -> None:
    tasks = [pets(tmp_path / kind, KINDS[kind][0]) for kind in ("8 bits in a png of 16", "16 bits")]
    with pytest.raises(DataError, match="values of 0 … 255, the bank takes 0 … 65,535"):
        create_bank(tmp_path / "a.impress", tasks, network=Network(image_size=SIDE), fit=MaskTraining(epochs=1))
    assert not (tmp_path / "a.impress" / "bank.json").exists()


def test_another_task_of_the_same_camera_is_welcome(tmp_path: Path) -> None:
    bank = grey_bank(tmp_path / "a.impress", pets(tmp_path / "pets", KINDS["12 bits in a png of 16"][0]))
    dimmer = pets(tmp_path / "others", lambda v: png((v * 2900 + 40).round().astype(np.uint16)))
    assert len(add_tasks(bank.path, [dimmer], fit=TaskTraining(epochs=1))) == 1


def test_two_banks_do_not_share_what_the_cache_has_of_a_folder(tmp_path: Path) -> None:
    task = pets(tmp_path / "pets", KINDS["12 bits in a png of 16"][0])
    narrow, wide = (msgspec.structs.replace(VIEW, span=(0.0, high)) for high in (4095.0, 65535.0))
    assert int(pixels_of(task, narrow).max()) == 255
    assert int(pixels_of(task, wide).max()) == 16


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("span", [None, (0.0, 1.0)])
def test_a_value_that_is_no_number_makes_an_image_unreadable(spoilt: float, span: tuple[float, float] | None) -> None:
    image = FRACTIONS.copy()
    image[2, 3] = spoilt
    with pytest.raises(DataError, match="no finite number"):
        decode_image(tiff(image, FLOAT), msgspec.structs.replace(VIEW, span=span))


def test_such_an_image_is_told_and_left_out_of_a_task(tmp_path: Path) -> None:
    task = pets(tmp_path / "pets", KINDS["floats of 0 ... 1"][0])
    image = FRACTIONS.copy()
    image[2, 3] = np.nan
    (tmp_path / "pets" / "train" / "cat" / "0.tif").write_bytes(tiff(image, FLOAT))
    told: list[str] = []
    bank = grey_bank(tmp_path / "a.impress", task, Progress(remark=told.append))
    assert view_of(bank).span == (0, 1)
    assert any("1 of 24 images are left out" in remark and "no finite number" in remark for remark in told)


# A bank that says no scale: of an older release, or made of images of 8 bits


@pytest.fixture
def scaleless(tmp_path: Path) -> Bank:
    return grey_bank(tmp_path / "a.impress", pets(tmp_path / "plain", lambda v: png((v * 255).astype(np.uint8))))


def test_it_takes_a_task_of_whole_16_bits_and_says_at_inference_that_it_guesses(
    scaleless: Bank, tmp_path: Path
) -> None:
    task = pets(tmp_path / "pets", KINDS["16 bits"][0])
    add_tasks(scaleless.path, [task], name="pets", fit=TaskTraining(epochs=1))
    deep = tmp_path / "pets" / "test" / "cat" / "0.tif"
    (remark,) = infer(scaleless.path, [deep], task="pets").remarks
    assert "1 image of more than 8 bits" in remark
    assert "does not say which value is white" in remark


@pytest.mark.parametrize("kind", ["12 bits in a png of 16", "floats of 0 ... 255", "with a sign"])
def test_it_refuses_a_task_that_it_would_make_black_or_white(scaleless: Bank, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="as it was made of other images"):
        add_tasks(scaleless.path, [pets(tmp_path / "pets", KINDS[kind][0])], fit=TaskTraining(epochs=1))
    assert open_bank(scaleless.path).task_names() == []


@pytest.mark.parametrize(("most", "white"), [(65535, 65535), (4095, 65535), (200, 255)])
def test_it_reads_a_grey_image_as_the_releases_did_that_its_tasks_were_learned_by(most: int, white: int) -> None:
    image = (SHADES * most).round().astype(np.uint16)
    assert np.abs(decode_image(png(image), VIEW)[0] - image * (255 / white)).max() <= 0.5 + 1e-6


def test_it_tells_of_images_of_a_task_that_it_takes_for_8_bits(scaleless: Bank, tmp_path: Path) -> None:
    """Dark ones, among images of 16 bits, as each is taken by itself."""
    task = pets(tmp_path / "pets", KINDS["16 bits"][0])
    (tmp_path / "pets" / "train" / "cat" / "dark.tif").write_bytes(png((SHADES * 200).astype(np.uint16)))
    told: list[str] = []
    add_tasks(scaleless.path, [task], fit=TaskTraining(epochs=1), progress=Progress(remark=told.append))
    assert any("without a value above 255 are taken for images of 8 bits" in remark for remark in told)


# The scale itself


@pytest.mark.parametrize(
    ("low", "high", "whole", "span"),
    [
        (0, 4020, True, (0, 4095)),
        (3, 65000, True, (0, 65535)),
        (0, 255, True, (0, 255)),
        (0, 9, True, (0, 9)),
        (7000, 9000, True, (7000, 9000)),
        (-1024, 3071, True, (-1024, 3071)),
        (0.001, 0.998, False, (0, 1)),
        (0.0, 254.2, False, (0, 255)),
        (0.3, 9.7, False, (0.3, 9.7)),
        (5, 5, True, (5, 10)),
        (0, 0, True, (0, 1)),
        (1e30, 1e30, False, (1e30, 2e30)),
    ],
)
def test_a_span_is_the_full_scale_that_values_fill_or_else_theirs(
    low: float, high: float, whole: bool, span: tuple[float, float]
) -> None:
    assert choose_span(low, high, whole=whole) == span


@pytest.mark.parametrize(
    ("low", "high", "fine"),
    [(0, 4095, True), (0, 4500, True), (0, 5000, False), (-400, 4095, True), (-600, 4095, False), (100, 300, False)],
)
def test_images_go_with_a_span_that_neither_cuts_them_off_nor_makes_them_of_one_shade(
    low: float, high: float, fine: bool
) -> None:
    assert goes_with(low, high, (0, 4095)) is fine


@pytest.mark.parametrize("span", [(5.0, 5.0), (6.0, 5.0)])
def test_a_manifest_with_a_span_that_is_none_is_refused(scaleless: Bank, span: tuple[float, float]) -> None:
    wrong = msgspec.structs.replace(view_of(scaleless), span=span)
    scaleless.manifest_path.write_bytes(seal_manifest(msgspec.structs.replace(scaleless.manifest, preprocess=wrong)))
    with pytest.raises(FormatError, match=r"preprocess\.span"):
        open_bank(scaleless.path)
