"""A person's own images: what is a task, a class, a test image; what is left out; what is decoded, once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from impress_format.errors import DataError, InvalidReference, StorageError
from impress_learn.pictures import read_picture
from impress_learn.streams import image_cache
from impress_learn.streams.image_files import list_pictures
from impress_learn.streams.load import check_data, load_task, measured_view
from impress_learn.streams.reference import Reference, parse_reference, parse_references
from impress_learn.streams.view import fitted, photo_view
from impress_learn.watch import Watch

SIDE = 8
VIEW = photo_view(SIDE, grey=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("IMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def paint(path: Path, shade: int = 0, size: tuple[int, int] = (SIDE, SIDE), mode: str = "RGB") -> Path:
    """An image file of one shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (shade, shade, shade))
    image.convert(mode).save(path)
    return path


def make_task(folder: Path, counts: dict[str, int]) -> Path:
    """A folder of classes with so many images each, no two of one shade."""
    shade = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            paint(folder / name / f"{number:03}.png", shade)
            shade += 1
    return folder


def folder(path: Path) -> Reference:
    return parse_reference(f"folder:{path}")


def shades(reference: Reference) -> dict[str, set[tuple[int, int]]]:
    """Shade and label of each training and test image."""
    data = load_task(reference, data_dir=None, view=VIEW)
    parts = {"train": data.train, "test": data.test}
    return {
        name: {
            (int(pixels[0, 0, 0]), int(label))
            for pixels, label in zip(images.pixels_of(slice(None)), images.labels, strict=True)
        }
        for name, images in parts.items()
    }


# What is a task


def test_a_folder_of_classes_is_one_task(tmp_path: Path) -> None:
    task = make_task(tmp_path / "pets", {"cat": 5, "dog": 5})
    (reference,) = parse_references([f"folder:{task}"])
    assert str(reference) == f"folder:{task}"
    assert reference.data_set.class_names == ("cat", "dog")


def test_a_folder_of_such_folders_is_a_task_each(tmp_path: Path) -> None:
    for name in ("b", "a"):
        make_task(tmp_path / "all" / name, {"cat": 2, "dog": 2})
    (tmp_path / "all" / ".hidden" / "x").mkdir(parents=True)
    (tmp_path / "all" / "notes").mkdir()
    found = parse_references([f"folder:{tmp_path / 'all'}"])
    assert [str(one) for one in found] == [f"folder:{tmp_path / 'all' / name}" for name in ("a", "b")]


def test_a_split_folder_is_one_task(tmp_path: Path) -> None:
    for part in ("train", "test"):
        make_task(tmp_path / "pets" / part, {"cat": 2, "dog": 2})
    assert len(parse_references([f"folder:{tmp_path / 'pets'}"])) == 1


@pytest.mark.parametrize("text", ["folder:", "folder:a\x1b[2Jb", f"folder:{'x' * 2000}", "folder/x"])
def test_a_reference_that_names_no_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_references([text])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        parse_references([f"folder:{tmp_path / 'nowhere'}"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(DataError, match="secret cannot be read"):
        parse_references([f"folder:{tmp_path / 'secret'}"])


# Training and test images


def test_without_a_split_a_fifth_of_each_class_is_tested_on(tmp_path: Path) -> None:
    reference = folder(make_task(tmp_path / "pets", {"cat": 20, "dog": 10}))
    found = shades(reference)
    assert [len([1 for _, label in found["test"] if label == wanted]) for wanted in (0, 1)] == [4, 2]
    assert found["train"] | found["test"] == {(shade, int(shade >= 20)) for shade in range(30)}
    assert not found["train"] & found["test"]
    assert (reference.data_set.train_images, reference.data_set.test_images) == (24, 6)


def test_the_split_is_the_same_wherever_the_folder_lies(tmp_path: Path) -> None:
    first, second = (shades(folder(make_task(tmp_path / name, {"cat": 20, "dog": 20}))) for name in ("a", "b"))
    assert first == second


@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=4), more=st.integers(1, 3))
def test_more_images_move_few_others_between_the_parts(
    counts: list[int], more: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("growing")
    names = [f"class {number}" for number in range(len(counts))]
    for name, count in zip(names, counts, strict=True):
        for number in range(count):
            (root / name).mkdir(exist_ok=True)
            (root / name / f"{number}.png").touch()
    if sum(count > 1 for count in counts) == 0:
        return
    before = list_pictures(root)
    for number in range(more):
        (root / names[0] / f"new {number}.png").touch()
    after = list_pictures(root)
    assert len(after.train) + len(after.test) == sum(counts) + more
    moved = {one.name for one in before.test} - {one.name for one in after.test}
    assert len(moved) <= more


@pytest.mark.parametrize("second", ["test", "val", "valid", "validation"])
def test_a_split_that_is_there_is_taken(tmp_path: Path, second: str) -> None:
    make_task(tmp_path / "pets" / "train", {"cat": 3, "dog": 3})
    paint(tmp_path / "pets" / second / "cat" / "a.png", 100)
    paint(tmp_path / "pets" / second / "dog" / "b.png", 101)
    found = shades(folder(tmp_path / "pets"))
    assert found["train"] == {(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)}
    assert found["test"] == {(100, 0), (101, 1)}


def test_images_further_down_are_of_their_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        make_task(tmp_path / "pets" / part, {"cat": 1, "dog": 1})
    paint(tmp_path / "pets" / "train" / "cat" / "white" / "old.png", 77)
    assert (77, 0) in shades(folder(tmp_path / "pets"))["train"]


def test_test_classes_that_nobody_can_learn_are_refused(tmp_path: Path) -> None:
    make_task(tmp_path / "pets" / "train", {"cat": 2, "dog": 2})
    make_task(tmp_path / "pets" / "test", {"cat": 2, "cow": 2})
    with pytest.raises(DataError, match=r"test has cow, of which there is no training image"):
        folder(tmp_path / "pets").data_set  # noqa: B018


# What is left out, and said


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    task = make_task(tmp_path / "pets", {"cat": 5, "dog": 1, "empty": 0})
    (task / "cat" / "notes.txt").touch()
    (task / "cat" / ".DS_Store").touch()
    (task / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    told: list[str] = []
    check_data([folder(task)], data_dir=None, view=VIEW, watch=Watch(remark=told.append))
    assert [text.removeprefix(f"{task}: ") for text in told] == [
        "no image in empty: left out",
        "one image of dog: it is learned from, and not tested on",
        "2 files are no images (cat/lost.png, cat/notes.txt): left out",
    ]


@pytest.mark.parametrize(("counts", "named"), [({"cat": 4}, "1 class"), ({"cat": 4, "dog": 0}, "cat"), ({}, "0 class")])
def test_a_task_of_one_class_is_refused(tmp_path: Path, counts: dict[str, int], named: str) -> None:
    task = make_task(tmp_path / "pets", counts)
    task.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=f"{named}.*two or more"):
        folder(task).data_set  # noqa: B018


def test_a_task_without_a_test_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test image: put some into"):
        folder(make_task(tmp_path / "pets", {"cat": 1, "dog": 1})).data_set  # noqa: B018


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no image": lambda _: b"not an image at all",
    "cut short": lambda content: content[: len(content) // 2],
}


@pytest.mark.parametrize("kind", SPOILED)
def test_an_image_that_cannot_be_read_is_named_and_left_out(tmp_path: Path, kind: str) -> None:
    task = make_task(tmp_path / "pets", {"cat": 10, "dog": 10})
    bad = task / "cat" / "003.png"
    bad.write_bytes(SPOILED[kind](bad.read_bytes()))
    for _ in range(2):  # decoded, and from the cache
        told: list[str] = []
        check_data([folder(task)], data_dir=None, view=VIEW, watch=Watch(remark=told.append))
        assert len(told) == 1
        assert f"1 of 20 images are left out: {bad}: no image that can be read" in told[0]
    found = shades(folder(task))
    assert len(found["train"] | found["test"]) == 19
    assert (3, 0) not in found["train"] | found["test"]
    assert (4, 0) in found["train"] | found["test"]


def test_a_task_whose_images_cannot_be_read_is_refused(tmp_path: Path) -> None:
    task = make_task(tmp_path / "pets", {"cat": 4, "dog": 4})
    for path in task.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 8 images can be read"):
        load_task(folder(task), data_dir=None, view=VIEW)


# Decoding


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
def test_images_of_every_mode_become_what_is_wanted(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(np.full((SIDE, SIDE), 200 * 257, dtype=np.uint16)).save(path)
    else:
        Image.new("RGB", (SIDE, SIDE), (255, 255, 255)).convert(mode).save(path)
    pixels = read_picture(path, VIEW)
    assert pixels.shape == (3, SIDE, SIDE)
    assert int(pixels.float().mean()) == (200 if mode == "I;16" else 255)


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), (shade, shade, shade)) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert int(read_picture(tmp_path / "a.gif", VIEW).float().mean()) == 10


def test_an_image_that_says_how_it_was_held_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE))
    image.paste((255, 255, 255), (0, 0, SIDE // 2, SIDE))  # the left half is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    pixels = read_picture(tmp_path / "a.png", VIEW)
    assert int(pixels[0, 0].float().mean()) == 255  # the top
    assert int(pixels[0, -1].float().mean()) == 0


@given(width=st.integers(SIDE, 60), height=st.integers(SIDE, 60))
def test_of_a_long_image_the_centre_is_taken(width: int, height: int) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, max(width, height)), (height, max(width, height)))[:, :width]
    if height > width:
        ramp = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    pixels = torch.from_numpy(np.ascontiguousarray(ramp).round().astype(np.uint8))[None, None]
    cut = fitted(pixels, photo_view(SIDE, grey=True))
    assert cut.shape == (1, 1, SIDE, SIDE)
    middle = float(pixels.float().mean())
    step = 255 / SIDE * max(width, height) / min(width, height) / 2
    assert abs(float(cut.float().mean()) - middle) <= step


def test_images_in_memory_are_made_as_those_in_files_are(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((90, 60))
    coarse.save(tmp_path / "a.png")
    for view in (photo_view(32, grey=False), photo_view(32, grey=True), photo_view(100, grey=False)):
        from_file = read_picture(tmp_path / "a.png", view).float()
        in_memory = fitted(torch.from_numpy(np.array(coarse)).permute(2, 0, 1)[None], view)[0].float()
        assert float((from_file - in_memory).abs().mean()) < 1.0
        assert float((from_file - in_memory).abs().max()) <= 4.0


def test_a_bank_is_normalised_by_the_images_it_is_made_from(tmp_path: Path) -> None:
    task = tmp_path / "pets"
    for part, shade in (("train", 51), ("test", 255)):
        for name in ("cat", "dog"):
            paint(task / part / name / "a.png", shade)
            paint(task / part / name / "b.png", shade * 3 if part == "train" else shade)
    view = measured_view(folder(task), VIEW, data_dir=None, holdout=0.0)
    pixels = np.repeat([51 / 255, 153 / 255] * 2, SIDE * SIDE)
    assert view.mean == pytest.approx([pixels.mean()] * 3, abs=1e-4)
    assert view.std == pytest.approx([pixels.std(ddof=1)] * 3, abs=1e-4)


# The cache


def decoded(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many image files were opened to load a task."""
    opened: list[Path] = []

    def counted(path: Path, view: object) -> torch.Tensor:
        opened.append(path)
        return read_picture(path, VIEW)

    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "read_picture", counted)
        load_task(reference, data_dir=None, view=VIEW)
    return len(opened)


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(tmp_path / "pets", {"cat": 5, "dog": 5})
    assert decoded(folder(task), monkeypatch) == 10
    assert decoded(folder(task), monkeypatch) == 0


def test_an_image_that_changed_is_decoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(tmp_path / "pets", {"cat": 5, "dog": 5})
    before = shades(folder(task))
    paint(task / "cat" / "000.png", 200)
    os.utime(task / "cat" / "000.png", ns=(1, 1))
    assert decoded(folder(task), monkeypatch) == 10
    after = shades(folder(task))
    assert (after["train"] | after["test"]) - (before["train"] | before["test"]) == {(200, 0)}


def customers(folder: Path) -> tuple[Path, Path]:
    """Two folders alike in every name, size and date, in whose images no pixel is the same."""
    found = []
    for name, first in (("first", 0), ("second", 100)):
        for number in range(10):
            path = folder / name / ("cat", "dog")[number // 5] / f"{number:03}.bmp"
            paint(path, first + number)
            os.utime(path, ns=(1, 1))
        found.append(folder / name)
    return found[0], found[1]


def test_a_link_that_leads_to_other_images_is_decoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = customers(tmp_path)
    link = tmp_path / "customer"
    link.symlink_to(first)
    before = shades(folder(link))
    link.unlink()
    link.symlink_to(second)
    after = shades(folder(link))
    assert {name: {(shade + 100, label) for shade, label in part} for name, part in before.items()} == after
    assert decoded(folder(link), monkeypatch) == 0


def test_images_put_in_the_place_of_others_are_decoded_anew(tmp_path: Path) -> None:
    """By renaming, and by writing into the same files, with the dates put back."""
    first, second = customers(tmp_path)
    before = shades(folder(first))
    first.rename(tmp_path / "kept")
    second.rename(first)
    after = shades(folder(first))
    assert after["train"] == {(shade + 100, label) for shade, label in before["train"]}
    for path in first.rglob("*.bmp"):
        dates = path.stat()
        path.write_bytes((tmp_path / "kept" / path.relative_to(first)).read_bytes())
        os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert shades(folder(first)) == before


@pytest.mark.parametrize("suffix", [".u8", ".json"])
@pytest.mark.parametrize("spoil", [b"", b"{", b"x" * 1000, None])
def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, spoil: bytes | None
) -> None:
    task = make_task(tmp_path / "pets", {"cat": 5, "dog": 5})
    before = shades(folder(task))
    (entry,) = cache.glob(f"*{suffix}")
    entry.unlink() if spoil is None else entry.write_bytes(spoil)
    assert shades(folder(task)) == before


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(tmp_path / "pets", {"cat": 5, "dog": 5})
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMPRESS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="file/cache"):
        load_task(folder(task), data_dir=None, view=VIEW)


def test_a_killed_decoder_leaves_nothing_that_stands_for_a_cache(tmp_path: Path, cache: Path) -> None:
    task = make_task(tmp_path / "pets", {"cat": 200, "dog": 200})
    code = (
        "import os, sys\n"
        "from impress_learn.streams import image_cache\n"
        "from impress_learn.streams.load import load_task\n"
        "from impress_learn.streams.reference import parse_reference\n"
        "from impress_learn.pictures import read_picture\n"
        "def read(path, view):\n"
        "    if path.name == '150.png' and path.parent.name == 'dog': os._exit(9)\n"
        "    return read_picture(path, view)\n"
        "image_cache.read_picture = read\n"
        "load_task(parse_reference(sys.argv[1]), data_dir=None)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, f"folder:{task}"], check=False)
    assert killed.returncode == 9
    assert not list(cache.glob("*.json"))
    data = load_task(folder(task), data_dir=None)
    assert len(data.train) + len(data.test) == 400
    assert not list(cache.glob("*.partial"))
