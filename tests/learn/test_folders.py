"""A person's own images: what is a task, a class, a test image; what is left out; what is decoded, once."""

from __future__ import annotations

import hashlib
import os
import shutil
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
from impress_learn.progress import Progress
from impress_learn.streams import image_cache
from impress_learn.streams.copies import find_copies
from impress_learn.streams.folder_key import FolderKey, group_name, parse_folder_key
from impress_learn.streams.image_files import list_images
from impress_learn.streams.load import check_data, load_task, measured_view
from impress_learn.streams.read_image import Pixels, decode_image
from impress_learn.streams.reference import Reference, group_references, parse_one, parse_reference, parse_references
from impress_learn.streams.set_apart import Member, set_apart, together
from impress_learn.streams.view import fitted, photo_view

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


def remarks(reference: Reference) -> list[str]:
    """What is said of a task's folder, and of how it was read."""
    told: list[str] = []
    check_data([reference], data_dir=None, view=VIEW, progress=Progress(remark=told.append))
    return [text.partition(": ")[2] for text in told]


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


def test_a_stored_task_is_read_as_it_was_learned_whatever_came_to_lie_in_its_folder(tmp_path: Path) -> None:
    """A class with folders in it, in a folder of tasks: read once more by itself it would be tasks."""
    for task in ("a", "b"):
        for name in ("cat", "dog"):
            make_task(tmp_path / "all" / task / name, {"indoors": 3, "outdoors": 3})
    stored = [str(one) for one in parse_references([f"folder:{tmp_path / 'all'}"])]
    assert [parse_reference(text).data_set.class_names for text in stored] == [("cat", "dog")] * 2


def test_classes_with_folders_in_them_are_one_task_where_tasks_would_lose_images(tmp_path: Path) -> None:
    pets = make_task(tmp_path / "pets", {"cat": 3, "dog": 3})
    make_task(pets / "cow", {"2023": 3, "2024": 3})
    (reference,) = parse_references([f"folder:{pets}"])
    assert str(reference) == f"folder:{pets}"
    assert reference.data_set.class_names == ("cat", "cow", "dog")
    assert reference.data_set.train_images + reference.data_set.test_images == 12
    said = remarks(reference)[0]
    assert "read as one task of 3 classes (cat, cow, dog)" in said
    assert f"If cow is a task: folder:{pets / 'cow'}; if every one is: folder:{pets}::tasks" in said
    (alone,) = parse_references([f"folder:{pets / 'cow'}"])
    assert alone.data_set.class_names == ("2023", "2024")
    assert len(parse_references([f"folder:{pets}::tasks"])) == 3


def test_folders_that_may_be_tasks_or_classes_are_tasks_and_it_is_said(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        make_task(tmp_path / "pets" / name, {"cam1": 3, "cam2": 3})
    tasks = parse_references([f"folder:{tmp_path / 'pets'}"])
    assert [one.data_set.class_names for one in tasks] == [("cam1", "cam2")] * 2
    said = remarks(tasks[0])[0]
    assert "read as 2 tasks (cat, dog), each of the classes in its folder (cam1, cam2)" in said
    assert f"If these are the classes of one task: folder:{tmp_path / 'pets'}::classes" in said
    assert not any("read as" in text for text in remarks(tasks[1]))
    (one,) = parse_references([f"folder:{tmp_path / 'pets'}::classes"])
    assert one.data_set.class_names == ("cat", "dog")
    assert parse_reference(str(one)) == one
    with pytest.raises(InvalidReference, match=r"names 2 tasks: one is expected\n.*::classes"):
        parse_one(f"folder:{tmp_path / 'pets'}")


def test_tasks_beside_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    make_task(tmp_path / "all" / "pets" / "train", {"cat": 3, "dog": 3})
    make_task(tmp_path / "all", {"junk": 3})
    with pytest.raises(DataError, match=r"holds tasks \(pets\) and folders that are none \(junk\)"):
        parse_references([f"folder:{tmp_path / 'all'}"])


@pytest.mark.parametrize(
    "text",
    [
        "folder:",
        "folder:a\x1b[2Jb",
        f"folder:{'x' * 2000}",
        "folder/x",
        "folder:::classes",
        "folder:a::classes::tasks",
        "folder:a::groups=x",
        "folder:a::groups={}::groups={}_*",
        "folder:a\udcff",
    ],
)
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
    before = list_images(root)
    for number in range(more):
        (root / names[0] / f"new {number}.png").touch()
    after = list_images(root)
    assert len(after.train) + len(after.test) == sum(counts) + more
    weight_delta = {one.name for one in before.test} - {one.name for one in after.test}
    assert len(weight_delta) <= more


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("train", "test"),
        ("train", "val"),
        ("train", "valid"),
        ("train", "validation"),
        ("training", "testing"),
        ("Training", "Testing"),
        ("Train", "val"),
        ("TRAIN", "Test"),
    ],
)
def test_a_split_that_is_there_is_taken(tmp_path: Path, first: str, second: str) -> None:
    make_task(tmp_path / "pets" / first, {"cat": 3, "dog": 3})
    paint(tmp_path / "pets" / second / "cat" / "a.png", 100)
    paint(tmp_path / "pets" / second / "dog" / "b.png", 101)
    (reference,) = parse_references([f"folder:{tmp_path / 'pets'}"])
    found = shades(reference)
    assert found["train"] == {(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)}
    assert found["test"] == {(100, 0), (101, 1)}
    assert remarks(reference) == [f"tested on the 2 images in {second}"]


def test_where_there_are_test_and_validation_images_the_first_count_and_it_is_said(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        make_task(tmp_path / "pets" / part, {"cat": 3, "dog": 3})
    paint(tmp_path / "pets" / "plots" / "a.png")
    assert remarks(folder(tmp_path / "pets")) == [
        "tested on the 6 images in test",
        "6 of 6 test images were learned from, too, byte for byte (test/cat/000.png, test/cat/001.png, "
        "test/cat/002.png and 3 more): accuracy on them is too good",
        "images in plots, val: left out",
    ]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("train", "Training", "test"), "Training, train, which could each be the training images"),
        (("train", "test", "testing"), "test, testing, which could each be the test images"),
        (("test", "val"), "no folder `train` of training images"),
        (("Testing", "cat"), "no folder `train` of training images"),
        (("train", "bus"), "call that `test` if it holds test images; without it: folder:"),
        (("train", "eval"), "eval: call that `test` if it holds test images"),
    ],
)
def test_parts_that_could_be_several_things_are_refused(tmp_path: Path, parts: tuple[str, ...], said: str) -> None:
    for part in parts:
        make_task(tmp_path / "pets" / part, {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match=said):
        [one.data_set for one in parse_references([f"folder:{tmp_path / 'pets'}"])]
    (reference,) = parse_references([f"folder:{tmp_path / 'pets'}::classes"])
    assert reference.data_set.class_names == tuple(sorted(parts))


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


# Images that belong together


@given(
    sizes=st.lists(st.integers(1, 6), min_size=4, max_size=12),
    labels=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    other=st.lists(st.integers(0, 2), min_size=12, max_size=12),
)
def test_sets_are_never_split_and_about_a_fifth_is_set_apart(
    sizes: list[int], labels: list[int], other: list[int]
) -> None:
    """Sets of images, each of one class or of two."""
    members: list[Member] = []
    sets: list[list[int]] = []
    for number, size in enumerate(sizes):
        sets.append(list(range(len(members), len(members) + size)))
        members += [Member(f"{number}/{one}", (labels, other)[one % 2][number], f"{number}") for one in range(size)]
    assert sorted(map(sorted, together(members, []))) == sets
    chosen = set_apart(members, sets)
    assert all(len(chosen & set(places)) in (0, len(places)) for places in sets)
    largest = max(sizes)
    for label in set(labels):
        own = {place for place, member in enumerate(members) if member.label == label}
        assert not own or own - chosen  # there is something to learn from
        assert len(own & chosen) <= max(0.2 * len(own) + 1, 3 * largest)
    assert chosen == set_apart(members, list(reversed(sets)))


def test_without_sets_the_fifth_is_that_of_earlier_releases() -> None:
    """By class, those whose names have the least digests."""
    members = [Member(f"{'ab'[label]}/{number}.png", label, None) for label in (0, 1) for number in range(10 + label)]
    chosen = set_apart(members, [[place] for place in range(len(members))])
    for label in (0, 1):
        own = [place for place, member in enumerate(members) if member.label == label]
        own.sort(key=lambda place: hashlib.sha256(members[place].name.encode()).digest())
        assert set(own) & chosen == set(own[:2])


def test_copies_of_an_image_stay_on_one_side_and_are_counted(tmp_path: Path) -> None:
    pets = make_task(tmp_path / "pets", {"cat": 10, "dog": 10})
    for number in range(10):
        shutil.copy(pets / "cat" / f"{number:03}.png", pets / "cat" / f"again {number}.png")
    os.link(pets / "dog" / "000.png", pets / "dog" / "linked.png")
    (pets / "dog" / "soft.png").symlink_to(pets / "dog" / "000.png")
    found = shades(folder(pets))
    assert not {shade for shade, _ in found["train"]} & {shade for shade, _ in found["test"]}
    assert {label for _, label in found["test"]} == {0, 1}
    assert remarks(folder(pets))[1] == (
        "12 images are there once more, byte for byte (cat/000.png and cat/again 0.png): copies stay on one side"
    )


def test_an_image_in_two_classes_is_told(tmp_path: Path) -> None:
    pets = make_task(tmp_path / "pets", {"cat": 10, "dog": 10})
    shutil.copy(pets / "cat" / "003.png", pets / "dog" / "same.png")
    found = shades(folder(pets))
    assert len({part for part, images in found.items() if {(3, 0), (3, 1)} & images}) == 1
    assert remarks(folder(pets))[-1] == (
        "1 image is in two classes or more, byte for byte (cat/003.png and dog/same.png): no answer to them can be "
        "right"
    )


def test_test_images_that_were_learned_from_are_counted(tmp_path: Path) -> None:
    make_task(tmp_path / "pets" / "train", {"cat": 5, "dog": 5})
    make_task(tmp_path / "pets" / "test", {"cat": 2, "dog": 0})
    paint(tmp_path / "pets" / "test" / "dog" / "a.png", 99)
    said = remarks(folder(tmp_path / "pets"))[1]
    assert said.startswith("2 of 3 test images were learned from, too, byte for byte (test/cat/000.png")


@pytest.mark.parametrize("size", [5_000, 50_000])
def test_files_of_one_size_are_compared_to_the_last_byte(tmp_path: Path, size: int) -> None:
    content = bytes(range(250)) * (size // 250)
    contents = [content, content, *(content[:at] + b"!" + content[at + 1 :] for at in (0, 4_500, size // 3, size - 1))]
    paths = []
    for number, each in enumerate([*contents, b"", b""]):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(each)
    assert find_copies([(path, path.stat()) for path in paths]) == [[0, 1]]


@pytest.mark.parametrize(
    ("pattern", "name", "group"),
    [
        ("{}_*", "p1_left.png", "p1"),
        ("{}_*", "p1.png", None),
        ("{}/*", "site 1/a/b.png", "site 1"),
        ("*/{}/*", "2023/site 1/b.png", "site 1"),
        ("*_{}_*", "IMG_07_p_1.png", "07"),
        ("{}_*_{}.png", "a_b_c_d.png", "a\0c_d"),
        ("video {}.png", "video .png", None),
        ("video {}.png", "video 1.png", "1"),
        ("{}", "a.png", "a.png"),
        ("{}.jpg", "a.png", None),
        ("*{}", "a.png", "a.png"),
    ],
)
def test_a_pattern_says_which_group_a_name_is_of(pattern: str, name: str, group: str | None) -> None:
    assert group_name(pattern, name) == group


def test_a_hostile_pattern_takes_no_longer() -> None:
    assert group_name("*a" * 300 + "{}b", "a" * 4000) is None


@pytest.mark.parametrize("pattern", ["{}_*", "{}/*"])
def test_groups_stay_on_one_side_here_and_wherever_the_reference_is_read(tmp_path: Path, pattern: str) -> None:
    for label, name in enumerate(("cat", "dog")):
        for number in range(40):
            between = pattern[2]
            paint(tmp_path / "pets" / name / f"{number % 10}{between}{number}.png", 100 * label + number)
    (reference,) = parse_references(group_references([f"folder:{tmp_path / 'pets'}"], pattern))
    assert str(reference) == f"folder:{tmp_path / 'pets'}::groups={pattern}"
    assert reference.data_set.class_names == ("cat", "dog")
    found = shades(reference)
    groups = {part: {shade % 10 for shade, _ in images} for part, images in found.items()}
    assert len(groups["test"]) == 2
    assert not groups["train"] & groups["test"]
    assert shades(parse_reference(str(reference))) == found
    assert f"10 groups by {pattern}, 2 of them to test on" in remarks(reference)
    assert shades(parse_reference(f"folder:{tmp_path / 'pets'}")) != found


def test_images_that_belong_together_are_held_out_together(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    for label, name in enumerate(("cat", "dog")):
        for number in range(40):
            paint(pets / name / f"{number % 10}_{number}.png", 100 * label + number)
    reference = parse_reference(f"folder:{pets}::groups={{}}_*")
    held = []
    for holdout in (0.1, 0.3, 0.5):
        data = load_task(reference, data_dir=None, view=VIEW, holdout=holdout)
        parts = [
            {int(one[0, 0, 0]) % 10 for one in part.pixels_of(slice(None))} for part in (data.train, data.validation)
        ]
        assert not parts[0] & parts[1]
        assert len(data.validation) >= holdout * 64
        held.append(parts[1])
    assert held[0] <= held[1] < held[2]


def test_groups_that_no_image_is_of_are_refused_and_those_of_some_told(tmp_path: Path) -> None:
    pets = make_task(tmp_path / "pets", {"cat": 5, "dog": 5})
    with pytest.raises(DataError, match=r"no image is like `groups` \{\}_\*, .* as 00"):
        parse_reference(f"folder:{pets}::groups={{}}_*").data_set  # noqa: B018
    for number in range(3):
        paint(pets / "cat" / f"a_{number}.png", 100 + number)
    said = remarks(parse_reference(f"folder:{pets}::groups={{}}_*"))
    assert (
        "10 images are not like {}_* (cat/000.png, cat/001.png, cat/002.png and 7 more): each is a group by itself"
        in said
    )


def test_groups_in_both_parts_of_a_split_are_told(tmp_path: Path) -> None:
    for part, shade in (("train", 0), ("test", 100)):
        for name in ("cat", "dog"):
            paint(tmp_path / "pets" / part / name / "p1_a.png", shade := shade + 1)
            paint(tmp_path / "pets" / part / name / f"{part}_a.png", shade := shade + 10)
    said = remarks(parse_reference(f"folder:{tmp_path / 'pets'}::groups={{}}_*"))
    assert "1 group is in training and in test (p1): accuracy may be too good" in said


def test_images_that_all_belong_together_are_learned_from(tmp_path: Path) -> None:
    pets = make_task(tmp_path / "pets", {"cat": 10})
    for number in range(3):
        paint(pets / "dog" / f"{number}.png", 99)
    assert "all images of dog belong together: they are learned from, and not tested on" in remarks(folder(pets))


def test_one_folder_is_not_read_in_two_ways(tmp_path: Path) -> None:
    pets = make_task(tmp_path / "pets", {"cat": 5, "dog": 5})
    with pytest.raises(InvalidReference, match="one folder read in two ways"):
        parse_references([f"folder:{pets}", f"folder:{pets}::groups={{}}"])


def test_a_pattern_goes_into_references_to_folders_that_say_none() -> None:
    texts = ["rotated-digits/0:30:10", "folder:a/b::tasks", "folder:c::groups={}/*"]
    grouped = ["rotated-digits/0:30:10", "folder:a/b::tasks::groups={}_*", "folder:c::groups={}/*"]
    assert group_references(texts, "{}_*") == grouped
    assert group_references(texts, None) == texts
    with pytest.raises(InvalidReference, match="is for your own images"):
        group_references(["rotated-digits/3"], "{}_*")
    with pytest.raises(InvalidReference, match="`groups` a: expected a pattern with"):
        group_references(["folder:c"], "a")


@given(path=st.text(min_size=1, max_size=20), classes=st.booleans(), groups=st.sampled_from([None, "{}_*", "{}/*"]))
def test_a_key_is_its_text(path: str, groups: str | None, *, classes: bool) -> None:
    key = FolderKey(Path(path), classes=classes, groups=groups)
    assert parse_folder_key(str(key)) == key
    odd = FolderKey(Path(path + "::classes"), classes=classes, groups=groups)
    assert parse_folder_key(str(odd)) == odd


# Names that cannot be stored

UNSTORABLE = {"tab": b"a\tb", "line": b"a\nb", "no UTF-8": b"a\xff", "invisible": "a\u200bb".encode()}


@pytest.mark.parametrize("name", UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_class_or_a_task_whose_name_cannot_be_stored_is_found_before_anything_is_read(
    tmp_path: Path, name: bytes
) -> None:
    called = os.fsdecode(name)
    try:
        (tmp_path / "pets" / called).mkdir(parents=True)
    except OSError:
        pytest.skip("this file system has no such names")
    make_task(tmp_path / "pets", {called: 5, "dog": 5})
    with pytest.raises(DataError, match=r"pets: the class 'a.* cannot be stored by its name"):
        folder(tmp_path / "pets").data_set  # noqa: B018
    make_task(tmp_path / "all" / called, {"cat": 5, "dog": 5})
    with pytest.raises(DataError, match=r"all: the task 'a.* cannot be stored by its name"):
        parse_references([f"folder:{tmp_path / 'all'}"])


# What is left out, and said


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    task = make_task(tmp_path / "pets", {"cat": 5, "dog": 1, "empty": 0})
    (task / "cat" / "notes.txt").touch()
    (task / "cat" / ".DS_Store").touch()
    (task / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (task / "cat" / "elsewhere").symlink_to(tmp_path)
    paint(task / "beside.png", 200)
    told: list[str] = []
    check_data([folder(task)], data_dir=None, view=VIEW, progress=Progress(remark=told.append))
    assert [text.removeprefix(f"{task}: ") for text in told] == [
        "no folder of test images: 1 of 6 images are set apart to test on, about a fifth of each class",
        "one image of dog: it is learned from, and not tested on",
        "no image in empty: left out",
        "4 files or linked folders are no images of a class (beside.png, cat/elsewhere, cat/lost.png and 1 more): "
        "left out",
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
        check_data([folder(task)], data_dir=None, view=VIEW, progress=Progress(remark=told.append))
        assert f"1 of 20 images are left out: {bad}: no image that can be read" in told[-1]
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
    pixels = decode_image(path, VIEW)
    assert pixels.shape == (3, SIDE, SIDE)
    assert int(pixels.mean()) == (200 if mode == "I;16" else 255)


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), (shade, shade, shade)) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert int(decode_image(tmp_path / "a.gif", VIEW).mean()) == 10


def test_an_image_that_says_how_it_was_held_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE))
    image.paste((255, 255, 255), (0, 0, SIDE // 2, SIDE))  # the left half is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    pixels = decode_image(tmp_path / "a.png", VIEW)
    assert int(pixels[0, 0].mean()) == 255  # the top
    assert int(pixels[0, -1].mean()) == 0


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
        from_file = torch.from_numpy(decode_image(tmp_path / "a.png", view)).float()
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

    def counted(path: Path, view: object) -> Pixels:
        opened.append(path)
        return decode_image(path, VIEW)

    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "decode_image", counted)
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
        "from impress_learn.streams.read_image import decode_image\n"
        "def read(path, view):\n"
        "    if path.name == '150.png' and path.parent.name == 'dog': os._exit(9)\n"
        "    return decode_image(path, view)\n"
        "image_cache.decode_image = read\n"
        "load_task(parse_reference(sys.argv[1]), data_dir=None)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, f"folder:{task}"], check=False)
    assert killed.returncode == 9
    assert not list(cache.glob("*.json"))
    data = load_task(folder(task), data_dir=None)
    assert len(data.train) + len(data.test) == 400
    assert not list(cache.glob("*.partial"))
