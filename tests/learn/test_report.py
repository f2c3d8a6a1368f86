"""impress_learn/report: the numbers of a page are those of the bank, and the page is one that runs and asks nothing."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from small_bank import make, manifest, over_weights, task_record

from impress_format import Bank, open_bank
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER
from impress_format.errors import BankNotFound, FormatError, StorageError, UsageError
from impress_format.operations.create import write_plan
from impress_format.operations.pack import pack_tasks
from impress_format.operations.stats import measure_storage
from impress_format.parts.table import stored_parts
from impress_format.tasks.sizes import measure_tasks
from impress_format.weights import permutation
from impress_learn import MaskTraining, Parts, Progress, TaskTraining, add_tasks, create_bank, evaluate, report_bank
from impress_learn.plan.asked import Masks, Network
from impress_learn.report.colours import DARK, DARK_BOTH, LIGHT, LIGHT_BOTH, contrast, ink_on, rgb
from impress_learn.report.facts import Facts, gather
from impress_learn.report.maps import layer_means, principal_plane
from impress_learn.report.masks import densest_by_chance, share_of_densest
from impress_learn.report.measured import BLOCK, ControlRecord, Measurement, from_page, keep_image, state_of, to_block
from impress_learn.report.page import POLICY, render
from impress_learn.report.png import data_uri, palette_png, to_levels
from impress_learn.report.style import DARK_THEME, LIGHT_THEME, sheet
from impress_learn.report.svg import nice_ticks, powers_of_ten, push_apart
from impress_learn.report.tables import Heat, heat, table
from impress_learn.report.words import escape, share_beginning, shorten, size, spread_evenly
from impress_learn.streams.load import load_task
from impress_learn.streams.permuted import put_back
from impress_learn.streams.reference import parse_reference

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*/digits.impress"))
ZOO = sorted((ROOT / "zoo").glob("*.impress"))
HOSTILE = "rotated-digits/<script>alert(1)</script>\"'&--></title>"


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """Four masks, one of them random, and a task of each kind that stands on them."""
    path = tmp_path_factory.mktemp("report") / "a.impress"
    create_bank(path, ["rotated-digits/0:180:60"], masks=Masks(random_masks=1), fit=MaskTraining(epochs=3))
    kinds: list[dict[str, Any]] = [{}, {"granularity": 8}, {"hybrid": True}, {"residual": 512}, {"vote": True}]
    for key, parts in zip((15, 75, 130, 90, 45), kinds, strict=True):
        add_tasks(path, [f"rotated-digits/{key}"], fit=TaskTraining(epochs=2), parts=Parts(**parts))
    return open_bank(path)


@pytest.fixture(scope="module")
def facts(bank: Bank) -> Facts:
    return gather(bank)


class Page(HTMLParser):
    """A page, parsed: its elements with their attributes, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._silent = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._silent else data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def pixels_of(uri: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.array(image)


# Where masks look


def test_a_picture_of_a_mask_is_the_share_of_ones_in_each_column_of_the_first_layer(bank: Bank, facts: Facts) -> None:
    frames = facts.masks.frames
    assert frames is not None
    assert (frames.kind, frames.indices, frames.put_back) == ("input", (0, 1, 2, 3), 0)
    for index, picture in zip(frames.indices, frames.pictures, strict=True):
        mask = bank.read_mask(index)[1]["fc1.weight"]
        expected = [[mask[:, 28 * y + x].sum() / 300 for x in range(28)] for y in range(28)]
        assert np.allclose(picture, expected)


def test_masks_of_digits_hold_more_ones_in_few_pixels_than_random_ones(bank: Bank, facts: Facts) -> None:
    frames = facts.masks.frames
    assert frames is not None
    *trained, random = (share_of_densest(picture) for picture in frames.pictures)
    assert min(trained) > 1.3 * frames.by_chance
    assert random == pytest.approx(frames.by_chance, rel=0.03)
    assert frames.densest == pytest.approx(np.mean(trained))


@pytest.mark.parametrize(("density", "outputs"), [(0.05, 300), (0.1, 300), (0.3, 64)])
def test_what_random_masks_would_hold_is_what_they_hold(density: float, outputs: int) -> None:
    generator = np.random.default_rng(5)
    held = [share_of_densest((generator.random((outputs, 28, 28)) < density).mean(axis=0)) for _ in range(20)]
    assert densest_by_chance(density, outputs) == pytest.approx(np.mean(held), rel=0.04)


def test_pixels_that_were_permuted_are_put_back() -> None:
    picture = np.arange(784.0).reshape(28, 28)
    order = permutation(7, "permuted pixels", 784)
    assert (put_back(picture.reshape(-1)[order].reshape(28, 28), 7) == picture).all()


def test_the_page_shows_each_mask_in_the_shades_of_its_shares(bank: Bank, facts: Facts, tmp_path: Path) -> None:
    report_bank(bank.path, tmp_path / "a.html")
    frames = facts.masks.frames
    assert frames is not None
    images = [one for one in page_of(tmp_path / "a.html").of("img") if one["width"] == "28"]
    assert len(images) == 4
    top = float(np.quantile(frames.pictures, 0.995))
    for image, picture in zip(images, frames.pictures, strict=True):
        assert image["src"] is not None
        assert (pixels_of(image["src"]) == np.clip(np.rint(picture / top * 47), 0, 47)).all()
        assert image["alt"] is not None
        assert f"{100 * picture.max():.1f} %" in image["alt"]


# Ones that two masks share


def test_shared_ones_are_counted_beside_chance(bank: Bank, facts: Facts) -> None:
    sharing = facts.masks.sharing
    assert sharing is not None
    masks = [{name: mask != 0 for name, mask in bank.read_mask(index)[1].items()} for index in range(4)]
    for one in range(4):
        for other in range(4):
            if one == other:
                assert np.isnan(sharing.lift[one, other])
                continue
            both = sum(int((masks[one][name] & masks[other][name]).sum()) for name in masks[0])
            chance = sum(masks[one][name].mean() * masks[other][name].mean() * masks[0][name].size for name in masks[0])
            assert sharing.lift[one, other] == pytest.approx(both / chance)
    for place, name in enumerate(masks[0]):
        each = [
            float((masks[a][name] & masks[b][name]).mean() / (masks[a][name].mean() * masks[b][name].mean()))
            for a in range(4)
            for b in range(4)
            if a != b
        ]
        assert sharing.by_layer[place] == pytest.approx(np.mean(each))


# What tasks weigh, and how they lie


def test_alpha_is_shown_as_its_mean_over_layers_and_groups(bank: Bank, facts: Facts) -> None:
    weighing, vote = facts.tasks.weighings
    assert (weighing.kind, weighing.tasks, vote.kind, vote.tasks) == ("alpha", 4, "vote", 1)
    plain = weighing.names.index("rotated-digits/15")
    assert np.allclose(weighing.by_task[plain], bank.read_task("rotated-digits-15")[1].mean(axis=1))
    grouped = bank.read_task("rotated-digits-75")[1]
    assert grouped.shape == (4, 24)
    expected = grouped.reshape(4, 3, 8).mean(axis=2).mean(axis=1)
    assert np.allclose(weighing.by_task[weighing.names.index("rotated-digits/75")], expected)


def test_a_last_layer_that_has_a_mask_of_its_own_counts_for_nothing(bank: Bank) -> None:
    alpha = bank.read_task("rotated-digits-130")[1]
    assert alpha.shape == (4, 2)
    means = layer_means(alpha, 1, bank.backbone)
    assert np.allclose(means[:, :2], alpha)
    assert np.isnan(means[:, 2]).all()


def test_mean_sizes_by_layer_are_over_all_tasks_that_weigh_the_mask_there(bank: Bank, facts: Facts) -> None:
    names = ["rotated-digits-15", "rotated-digits-75", "rotated-digits-90", "rotated-digits-130"]
    first = [np.abs(bank.read_task(name)[1]) for name in names]
    expected = np.mean([first[0][:, 0], first[1][:, :8].mean(axis=1), first[2][:, 0], first[3][:, 0]], axis=0)
    assert np.allclose(facts.tasks.weighings[0].by_layer[0], expected)


def test_the_map_is_of_the_two_directions_that_differ_most() -> None:
    generator = np.random.default_rng(3)
    plane = generator.normal(size=(50, 2)) * [5.0, 2.0]
    basis = np.linalg.qr(generator.normal(size=(6, 2)))[0]
    points, held = principal_plane(plane @ basis.T + 7.0)
    assert sum(held) == pytest.approx(1.0)
    assert held[0] > held[1]
    centred = plane - plane.mean(axis=0)
    assert np.allclose(points @ points.T, centred @ centred.T)
    assert np.allclose(principal_plane(plane @ basis.T + 7.0)[0], points)


def test_tasks_are_a_map_by_coefficients_and_with_the_tasks_of_masks_by_signatures(facts: Facts) -> None:
    by_alpha, by_signature = facts.tasks.maps
    assert set(by_alpha.labels) == {f"rotated-digits/{key}" for key in (15, 75, 90, 130)}
    assert by_signature.masks.count(None) == 5
    assert [mask for mask in by_signature.masks if mask is not None] == [0, 1, 2]  # the random one is of no task


def test_positions_of_signatures_are_in_the_units_of_the_task_classifier(bank: Bank, facts: Facts) -> None:
    """docs/format.md, Signatures: positions are signed bytes in units of 4 * sqrt(between) / 127."""
    between = bank.files.read(TASK_CLASSIFIER)[1].between.astype(np.float64)
    rows = []
    for task in bank.task_names():
        stored = bank.read_stored(task).values["signature"]
        assert isinstance(stored, bytes)
        rows.append(
            np.frombuffer(stored[8 : 8 + len(between)], dtype=np.int8).astype(np.float64) * 4 * np.sqrt(between) / 127
        )
    for index in range(3):
        signature = bank.read_mask_signature(index)
        assert signature is not None
        rows.append(signature[8 : 8 + len(between)].view(np.int8).astype(np.float64) * 4 * np.sqrt(between) / 127)
    assert np.allclose(principal_plane(np.stack(rows))[0], facts.tasks.maps[1].points, atol=1e-6)


def test_the_dial_says_what_a_task_of_each_granularity_takes(bank: Bank, facts: Facts, tmp_path: Path) -> None:
    assert [mark.granularity for mark in facts.tasks.dial] == [1, 4, 16, 64, 256, 300]
    assert [mark.coefficients for mark in facts.tasks.dial] == [4 * n for n in (3, 12, 42, 138, 366, 410)]
    shutil.copytree(bank.path, tmp_path / "b.impress")
    add_tasks(tmp_path / "b.impress", ["rotated-digits/30"], fit=TaskTraining(epochs=1), parts=Parts(granularity=16))
    (found,) = [one for one in open_bank(tmp_path / "b.impress").summarise_tasks() if one.task == "rotated-digits/30"]
    assert facts.tasks.dial[2].bytes == pytest.approx(found.bytes, abs=20)


def test_bytes_are_those_of_stats(bank: Bank, facts: Facts) -> None:
    assert facts.storage == measure_storage(bank)
    assert facts.storage == measure_storage(bank, stored=measure_tasks(bank.tasks))


# PNG


@given(
    pixels=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)),
    colours=st.integers(1, 256),
    seed=st.integers(0, 99),
)
def test_pillow_reads_the_pixels_that_were_written(
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], colours: int, seed: int
) -> None:
    pixels = (pixels.astype(int) % colours).astype(np.uint8)
    values = np.random.default_rng(seed).integers(0, 256, (colours, 3))
    palette = [(int(red), int(green), int(blue)) for red, green, blue in values]
    png = palette_png(pixels, palette)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.mode, image.size) == ("P", pixels.shape[::-1])
        assert (np.array(image) == pixels).all()
        assert (np.array(image.convert("RGB")) == values[pixels]).all()
    assert palette_png(pixels, palette) == png
    assert base64.b64decode(data_uri(png).partition(",")[2]) == png


@pytest.mark.parametrize("pixels", [np.zeros((2, 2, 3), np.uint8), np.zeros((0, 3), np.uint8), np.full((1, 1), 2)])
def test_pixels_of_no_picture_are_refused(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(ValueError, match="expected pixels"):
        palette_png(pixels.astype(np.uint8), [(0, 0, 0), (1, 1, 1)])


def test_levels_go_from_one_end_to_the_other() -> None:
    assert to_levels(np.array([-9.0, 0.0, 0.5, 1.0, 9.0, np.nan]), 0.0, 1.0, 3).tolist() == [0, 0, 1, 2, 2, 0]
    assert to_levels(np.array([1.0, 2.0]), 1.0, 1.0, 3).tolist() == [0, 0]


# Names of strangers


@given(st.text())
def test_escaped_text_reads_back_and_opens_nothing(text: str) -> None:
    page = Page(f'<p title="{escape(text)}">{escape(text)}</p>')
    assert [name for name, _ in page.elements] == ["p"]
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    assert page.text == shown
    assert (page.of("p")[0]["title"] or "") == shown


@given(st.text(min_size=1, max_size=60))
def test_names_in_tables_and_pictures_are_text_only(text: str) -> None:
    matrix = Heat(
        caption=text, sentence=text, corner=text, rows=[text], columns=[text], values=np.array([[1.0]]), digits=1
    )
    for made in (heat(matrix), table(text, [text, text], [[text, text]])):
        names = {name for name, _ in Page(made).elements}
        assert names <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_a_name_that_is_a_script_is_shown_and_runs_nowhere(tmp_path: Path) -> None:
    made = make(tmp_path / "<b onload=alert(1)>.impress")
    record = msgspec.structs.replace(task_record(made, "three", "rotated-digits/3"), task=HOSTILE)
    made.write_task(record, stored_parts(alpha=np.ones((2, 2), dtype=np.float32)))
    report_bank(made.path, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert "<script" not in text
    assert "<b onload" not in text
    assert HOSTILE in Page(text).text
    assert "<b onload=alert(1)>" in Page(text).text


def test_a_folder_whose_name_is_no_text_gives_a_page(tmp_path: Path) -> None:
    make(tmp_path / "a.impress")
    (tmp_path / "a.impress").rename(strange := Path(f"{tmp_path}/b\udcff\u202e.impress"))
    report_bank(strange, tmp_path / "a.html")
    assert "b\\udcff\\u202e" in page_of(tmp_path / "a.html").text


def test_names_that_are_measured_do_not_end_their_block() -> None:
    one = _control(HOSTILE + "</script><!--")
    measurement = Measurement(version=1, state="0" * 64, controls=(one,))
    block = to_block(measurement)
    assert block.count("</script>") == 1
    assert "<!--" not in block
    assert from_page(Path("a.html"), f"<p>{block}</p>") == measurement


# The page


def test_the_page_lets_nothing_in_and_runs_nothing(bank: Bank, tmp_path: Path) -> None:
    report_bank(bank.path, tmp_path / "a.html")
    page = page_of(tmp_path / "a.html")
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in page.of("meta")
    assert POLICY.startswith("default-src 'none';")
    assert "script-src" not in POLICY
    assert page.of("script") == page.of("link") == page.of("iframe") == page.of("a") == []
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")  # type: ignore[union-attr]
    assert "url(" not in sheet()
    assert "http" not in re.sub(r"http-equiv", "", (tmp_path / "a.html").read_text())


def test_pictures_say_what_they_show_and_tables_what_they_are(bank: Bank, tmp_path: Path) -> None:
    report_bank(bank.path, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    page = Page(text)
    assert len(page.of("svg")) >= 5
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 30 for one in page.of("svg"))
    assert all(len(one["alt"] or "") > 10 for one in page.of("img"))
    assert len(page.of("caption")) == len(page.of("table")) >= 8
    assert all(one["scope"] in ("row", "col") for one in page.of("th"))
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_text_can_be_read_on_its_ground() -> None:
    for theme in (LIGHT_THEME, DARK_THEME):
        for ink in ("ink", "quiet", "blue", "orange"):
            for ground in ("paper", "sheet"):
                assert contrast(rgb(theme[ink]), rgb(theme[ground])) >= 4.5, (ink, ground)
    for colour in (*LIGHT, *DARK, *LIGHT_BOTH, *DARK_BOTH):
        assert contrast(rgb(ink_on(colour)), colour) >= 4.5
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


def test_the_same_bank_gives_the_same_bytes_wherever_it_lies(bank: Bank, tmp_path: Path) -> None:
    report_bank(bank.path, tmp_path / "a.html")
    copy = shutil.copytree(bank.path, tmp_path / "elsewhere" / "a.impress")
    report_bank(copy, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_neither_torch_nor_any_other_large_package_is_imported(bank: Bank, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom impress_learn import report_bank\n"
        f"report_bank({str(bank.path)!r}, {str(tmp_path / 'a.html')!r})\n"
        f"report_bank({str(bank.path)!r}, {str(tmp_path / 'a.html')!r})\n"
        "print(sorted({'torch', 'torchvision', 'timm', 'PIL', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Banks of every kind


@pytest.mark.parametrize("path", [*GOLDEN, *ZOO], ids=lambda path: path.parent.name + path.name)
def test_every_bank_that_is_kept_gives_a_page(path: Path, tmp_path: Path) -> None:
    report_bank(path, tmp_path / "a.html")
    text = page_of(tmp_path / "a.html").text
    stored = open_bank(path).summarise_tasks()
    assert stored
    assert all(one.task in text for one in stored[:20])
    for what in ("nan", "NaN", "None", "inf "):
        assert not re.search(rf"(?<![\w-]){what}(?!\w)", text), what


def test_a_bank_without_tasks_says_so(tmp_path: Path) -> None:
    made = make(tmp_path / "a.impress")
    made.remove_task("one")
    made.remove_task("two")
    report_bank(made.path, tmp_path / "a.html")
    assert "No task is stored yet" in page_of(tmp_path / "a.html").text


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_a_bank_whose_masks_are_not_all_trained_says_how_many(trained: int, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.impress")
    part = write_plan(tmp_path / "a.impress", manifest())
    for index in range(trained):
        (part.path / "masks").mkdir(exist_ok=True)
        shutil.copy(whole.mask_path(index), part.mask_path(index))
    report_bank(part.path, tmp_path / "a.html")
    text = page_of(tmp_path / "a.html").text
    assert f"{3 - trained} of 3 planned masks are not trained yet" in text
    assert "not trained yet" in text


def test_a_bank_over_pretrained_weights_without_masks_or_tasks_gives_a_page(tmp_path: Path) -> None:
    made = over_weights(tmp_path / "a.impress")
    report_bank(made.path, tmp_path / "a.html")
    text = page_of(tmp_path / "a.html").text
    assert "This bank has no masks" in text
    assert "projection" in text


def test_a_network_of_convolutions_shows_its_window(tmp_path: Path) -> None:
    create_bank(
        tmp_path / "a.impress",
        ["rotated-digits/0"],
        network=Network(backbone="timm:test_resnet", image_size=32),
        masks=Masks(masks_per_task=0, random_masks=3),
    )
    add_tasks(tmp_path / "a.impress", ["rotated-digits/0"], fit=TaskTraining(epochs=1, shots=2))
    frames = gather(opened := open_bank(tmp_path / "a.impress")).masks.frames
    assert frames is not None
    assert frames.kind == "kernel"
    first = opened.backbone.masked_layers[0].name
    assert np.allclose(frames.pictures[1], opened.read_mask(1)[1][first].mean(axis=(0, 1)))
    report_bank(tmp_path / "a.impress", tmp_path / "a.html")
    assert "a window of" in page_of(tmp_path / "a.html").text


def test_heads_over_pretrained_weights_give_a_page(bank_for_heads: Bank, tmp_path: Path) -> None:
    add_tasks(bank_for_heads.path, ["rotated-digits/0:30:10"], fit=TaskTraining(epochs=1))
    report_bank(bank_for_heads.path, tmp_path / "a.html", measure=True)
    text = page_of(tmp_path / "a.html").text
    assert "head 64" in text or "head " in text
    assert "By what images look like" in text
    assert "Which task is it?" in text


def test_three_thousand_tasks_are_a_page_that_can_be_read(tmp_path: Path) -> None:
    made = make(tmp_path / "a.impress")
    generator = np.random.default_rng(0)
    accuracies = []
    for key in range(3_000):
        record = task_record(made, f"task-{key}", f"permuted-mnist/{key}")
        accuracies.append(round(0.5 + 0.4 * float(generator.random()), 4))
        alpha = generator.normal(size=(2, 2)).astype(np.float32)
        made.write_task(msgspec.structs.replace(record, accuracy=accuracies[-1]), stored_parts(alpha=alpha))
    pack_tasks(made)
    report_bank(made.path, tmp_path / "a.html")
    page = page_of(tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 200_000
    for share in (0.05, 0.5, 0.95):
        expected = np.quantile([0.9, 0.9, *accuracies], share)
        assert f"{100 * expected:.1f} %" in page.text
    assert "400 of the 3,002 tasks" in page.text
    assert len(page.of("svg")) <= 8


def test_a_damaged_mask_is_named_and_no_page_is_left(bank: Bank, tmp_path: Path) -> None:
    copy = open_bank(shutil.copytree(bank.path, tmp_path / "a.impress"))
    content = bytearray(copy.mask_path(1).read_bytes())
    content[-9] ^= 1
    copy.mask_path(1).write_bytes(content)
    with pytest.raises(FormatError, match="00001"):
        report_bank(copy.path, tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_bank_whose_tasks_all_have_a_last_layer_of_their_own_gives_a_page_without_a_warning(tmp_path: Path) -> None:
    create_bank(tmp_path / "a.impress", ["rotated-digits/0:180:90"], fit=MaskTraining(epochs=1))
    add_tasks(tmp_path / "a.impress", ["rotated-digits/15"], fit=TaskTraining(epochs=1), parts=Parts(hybrid=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report_bank(tmp_path / "a.impress", tmp_path / "a.html")
    assert "largest in fc" in page_of(tmp_path / "a.html").text


# The file


def test_a_page_is_replaced_and_no_other_file_is(bank: Bank, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    first = report_bank(bank.path, page)
    assert (first.file, first.bytes, first.measured) == (page, page.stat().st_size, 0)
    assert report_bank(bank.path, page) == first
    for content in (b"", b'<!DOCTYPE html>\n<html lang="en">', b"\xff\xfe", b"my own"):
        page.write_bytes(content)
        with pytest.raises(StorageError, match=r"a\.html is there already"):
            report_bank(bank.path, page)
        assert page.read_bytes() == content


def test_a_folder_a_link_and_the_bank_itself_are_no_place_for_it(bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.html").symlink_to(tmp_path / "other.html")
    for taken in ("folder", "link.html"):
        with pytest.raises(StorageError, match="is there already"):
            report_bank(bank.path, tmp_path / taken)
    with pytest.raises(UsageError, match="would lie in the bank"):
        report_bank(bank.path, bank.path / "a.html")
    with pytest.raises(StorageError, match="cannot write"):
        report_bank(bank.path, tmp_path / "nowhere" / "a.html")
    with pytest.raises(BankNotFound):
        report_bank(tmp_path / "none.impress", tmp_path / "b.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link.html"]


# What was measured


def _control(name: str) -> ControlRecord:
    return ControlRecord(
        name="x",
        task=name,
        samples=3,
        accuracy=0.5,
        wrong_mask=None,
        best_mask=None,
        best_index=None,
        examples=(keep_image(np.zeros((3, 2, 1), np.uint8), name, name),),
    )


@pytest.fixture(scope="module")
def measured(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of the bank with measured numbers."""
    page = tmp_path_factory.mktemp("measured") / "a.html"
    assert report_bank(bank.path, page, measure=True).measured == 5
    return page


def test_controls_are_those_of_eval(bank: Bank, measured: Path) -> None:
    kept = from_page(measured, measured.read_text())
    assert kept is not None
    own = {one.name: one.accuracy for one in evaluate(bank.path)}
    wrong = {one.name: one for one in evaluate(bank.path, wrong_mask=True)}
    for one in kept.controls:
        best = wrong[one.name].best_mask
        assert best is not None
        assert one.accuracy == pytest.approx(own[one.name], abs=1e-6)
        assert one.wrong_mask == pytest.approx(wrong[one.name].accuracy, abs=1e-6)
        assert one.best_mask == pytest.approx(best.accuracy, abs=1e-6)
        assert one.best_index == best.index
    text = page_of(measured).text
    assert "Which task is it?" in text
    best_of_all = [one.best_mask for one in kept.controls if one.best_mask is not None]
    assert f"The best single mask of the bank, unchanged, has {100 * np.mean(best_of_all):.1f} %" in text
    assert kept.candidates == 8
    assert all(0 <= one.right <= 1 and sum(number for _, number in one.counts) == 200 for one in kept.found)


def test_examples_are_test_images_in_sixteen_greys(bank: Bank, measured: Path) -> None:
    kept = from_page(measured, measured.read_text())
    assert kept is not None
    (control,) = (one for one in kept.controls if one.task == "rotated-digits/15")
    test = load_task(parse_reference("rotated-digits/15"), data_dir=None).test
    everything = test.pixels_of(slice(None)).numpy()[:, 0] // 16
    labels = test.labels.tolist()
    assert len(control.examples) == 6
    assert [one.label == one.answer for one in control.examples[4:]] == [False, False]
    for example in control.examples:
        (found,) = np.flatnonzero((everything == example.image()).all(axis=(1, 2)))[:1]
        assert str(labels[found]) == example.label


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_image_is_thinned_out_and_comes_back(channels: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (200, 150, channels), dtype=np.uint8)
    kept = keep_image(image, "a", "b")
    assert max(kept.shape) <= 64
    small = image[::4, ::4].astype(np.float64)
    shown = np.array(kept.palette)[kept.image()]
    assert np.abs(shown - small).max() <= (26 if channels == 3 else 17)


def test_the_next_page_keeps_what_was_measured_without_data_and_torch(
    bank: Bank, measured: Path, tmp_path: Path
) -> None:
    page = Path(shutil.copy(measured, tmp_path / "a.html"))
    script = (
        "import sys\nfrom impress_learn import report_bank\n"
        f"print(report_bank({str(bank.path)!r}, {str(page)!r}).measured)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "False"]
    assert page.read_bytes() == measured.read_bytes()


def test_numbers_of_another_state_of_the_bank_are_left_out_and_said(bank: Bank, measured: Path, tmp_path: Path) -> None:
    page = Path(shutil.copy(measured, tmp_path / "a.html"))
    copy = open_bank(shutil.copytree(bank.path, tmp_path / "a.impress"))
    before = state_of(copy)
    pack_tasks(copy)
    assert state_of(open_bank(copy.path)) == before
    told: list[str] = []
    assert report_bank(copy.path, page, progress=Progress(remark=told.append)).measured == 5
    copy.remove_task("rotated-digits-15")
    assert state_of(copy) != before
    assert report_bank(copy.path, page, progress=Progress(remark=told.append)).measured == 0
    assert len(told) == 1
    assert "of another state of the bank: left out" in told[0]
    assert BLOCK not in page.read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block.replace('"version":1', '"version":2'),
        lambda block: block.replace('"controls"', '"control"'),
        lambda block: block[: len(block) // 2],
        lambda block: block.replace('"accuracy":', '"accuracy":1'),
        lambda block: re.sub(r'"pixels":"[^"]*"', '"pixels":"AAAA"', block),
        lambda block: re.sub(r'"shape":\[28,28\]', '"shape":[64,64]', block),
    ],
)
def test_a_block_that_somebody_changed_is_left_out_and_said(
    change: Callable[[str], str], bank: Bank, measured: Path, tmp_path: Path
) -> None:
    text = measured.read_text()
    start, end = text.index(BLOCK) + len(BLOCK), text.rindex("</script>")
    page = tmp_path / "a.html"
    page.write_text(text[:start] + change(text[start:end]) + text[end:])
    told: list[str] = []
    assert report_bank(bank.path, page, progress=Progress(remark=told.append)).measured == 0
    assert len(told) == 1
    assert "left out" in told[0]


def test_a_bank_that_cannot_be_measured_says_so_and_gives_a_page(tmp_path: Path) -> None:
    made = make(tmp_path / "a.impress")
    for name in ("one", "two"):
        made.remove_task(name)
    told: list[str] = []
    report_bank(made.path, tmp_path / "a.html", measure=True, progress=Progress(remark=told.append))
    assert "nothing is measured" in told[0]


# Small pieces


def test_words() -> None:
    assert [size(value) for value in (None, 0, 999, 1_000, 1_234_567, 5e9, 2e12)] == [
        "—", "0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 GB", "2.0 TB",
    ]  # fmt: skip
    assert shorten("a" * 50, 9) == "aaaa…aaaa"
    assert share_beginning(["rotated-digits/0", "rotated-digits/9", "random"]) == "rotated-digits/"
    assert share_beginning(["rotated-digits/0", "other/0"]) == share_beginning(["a/1", "a/1"]) == ""
    assert spread_evenly(3, 5) == [0, 1, 2]
    assert spread_evenly(1_000_001, 3) == [0, 500_000, 1_000_000]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_lie_within_and_are_few(low: float, span: float, most: int) -> None:
    high = low + span
    ticks = nice_ticks(low, high, most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in ticks) or span < 1e-6 * abs(low)


def test_powers_of_ten_lie_within() -> None:
    assert powers_of_ten(3, 2_000) == [10, 100, 1_000]
    assert powers_of_ten(10, 10) == [10]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_labels_are_pushed_apart_within_their_bounds(places: list[float]) -> None:
    moved = push_apart(places, 10, 0, 100)
    ordered = sorted(moved)
    assert all(after - before >= 10 - 1e-6 for before, after in pairwise(ordered))
    assert min(moved) >= -1e-6
    assert max(moved) <= 100 + 1e-6


def test_a_large_matrix_becomes_a_picture_with_a_pixel_for_each_number() -> None:
    values = np.random.default_rng(2).random((40, 50))
    names = [f"a/{n}" for n in range(50)]
    made = Page(heat(Heat(caption="c", sentence="many", corner="x", rows=names[:40], columns=names, values=values)))
    (image,) = made.of("img")
    assert image["alt"] == "many"
    assert image["src"] is not None
    assert (pixels_of(image["src"]) == np.rint(values / values.max() * 47)).all()
    assert f"{np.quantile(values, 0.75):.3f}" in made.text


def test_equal_facts_render_equally_and_another_name_otherwise(facts: Facts) -> None:
    assert render(facts) == render(facts)
    assert render(replace(facts, name="b.impress")) != render(facts)


def test_the_picture_in_the_readme_is_that_of_the_bank_in_the_zoo() -> None:
    spec = importlib.util.spec_from_file_location("make_masks", ROOT / "docs" / "make_masks.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with Image.open(script.PICTURE) as image:
        assert (np.array(image) == script.pixels()).all(), "give `python docs/make_masks.py`"


def test_what_random_masks_share_looks_like_nothing(tmp_path: Path) -> None:
    create_bank(tmp_path / "a.impress", ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=4))
    report_bank(tmp_path / "a.impress", tmp_path / "a.html")
    cells = [one["class"] for one in page_of(tmp_path / "a.html").of("td") if (one.get("class") or "").startswith("b")]
    middle = len(LIGHT_BOTH) // 2
    assert len(cells) == 12
    assert {abs(int((cell or "")[1:]) - middle) for cell in cells} <= {0, 1, 2}


def test_a_bank_of_version_1_has_a_dial_of_float32() -> None:
    old = open_bank(GOLDEN[0])
    assert old.manifest.format_version == 1
    dial = gather(old).tasks.dial
    (plain,) = (one for one in old.summarise_tasks() if one.facts["granularity"] == 1)
    assert dial[0].bytes == pytest.approx(plain.bytes, abs=20)  # records of other lengths stand beside it
    assert dial[1].bytes - dial[0].bytes == 4 * (dial[1].coefficients - dial[0].coefficients)
