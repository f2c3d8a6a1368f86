"""Task references: STREAM/KEY and slices of keys, as Python means them."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impress_format.errors import DataError, InvalidReference
from impress_format.tasks.file import check_task_name
from impress_learn.streams.reference import Reference, parse_reference, parse_references
from impress_learn.streams.table import STREAMS, share_images

HEAVY = ("torch", "torchvision", "timm")


def keys(*texts: str) -> list[int | str]:
    return [reference.key for reference in parse_references(texts)]


@pytest.mark.parametrize("stream", [name for name, stream in STREAMS.items() if stream.keys])
def test_a_reference_is_its_text(stream: str) -> None:
    (reference,) = parse_references([f"{stream}/19"])
    assert (reference.stream.name, reference.key) == (stream, 19)
    assert str(reference) == f"{stream}/19"
    assert reference.default_name == f"{stream}-19"


@pytest.mark.parametrize("stream", [name for name, stream in STREAMS.items() if stream.shared is None and stream.keys])
def test_tasks_of_a_split_share_no_images(stream: str) -> None:
    assert not share_images(f"{stream}/1", f"{stream}/2")
    assert share_images("rotated-mnist/1", "permuted-mnist/2")
    assert not share_images("rotated-mnist/1", "rotated-digits/1")


@given(path=st.text(min_size=1, max_size=300))
def test_a_key_may_be_a_path_and_its_name_is_a_legal_one(path: str) -> None:
    folder = Reference(replace(STREAMS["rotated-digits"], name="folder"), path)
    assert str(folder) == f"folder:{path}"
    assert check_task_name(folder.default_name) == folder.default_name


def test_paths_that_read_alike_get_names_of_their_own() -> None:
    stream = replace(STREAMS["rotated-digits"], name="folder")
    names = [Reference(stream, path).default_name for path in ("/a b/c", "/a-b/c", "/" + 90 * "x", "/" + 91 * "x")]
    assert len(set(names)) == 4
    assert names[0].startswith("folder-a-b-c-")


def test_one_reference_is_one_task() -> None:
    assert str(parse_reference("rotated-mnist/30")) == "rotated-mnist/30"
    with pytest.raises(InvalidReference, match="rotated-mnist/0:3 names 3 tasks: one is expected"):
        parse_reference("rotated-mnist/0:3")


@given(start=st.integers(0, 359), stop=st.integers(1, 360), step=st.integers(1, 400))
def test_a_slice_names_the_keys_of_a_python_range(start: int, stop: int, step: int) -> None:
    text = f"rotated-digits/{start}:{stop}:{step}"
    if expected := list(range(start, stop, step)):
        assert keys(text) == expected
    else:
        with pytest.raises(InvalidReference, match="names no task"):
            keys(text)


def test_start_and_step_may_be_left_out() -> None:
    assert keys("rotated-mnist/:5") == [0, 1, 2, 3, 4]
    assert keys("rotated-mnist/3:6") == [3, 4, 5]
    assert keys("rotated-mnist/:9:4") == [0, 4, 8]


def test_a_slice_may_stop_beyond_the_last_key_as_long_as_it_names_none_beyond() -> None:
    assert keys("rotated-mnist/0:361:200") == [0, 200]
    assert keys("rotated-mnist/350:365:100") == [350]


def test_references_stay_in_order_across_streams() -> None:
    references = parse_references(["rotated-mnist/9", "permuted-mnist/0:2", "rotated-mnist/3"])
    assert [str(reference) for reference in references] == [
        "rotated-mnist/9",
        "permuted-mnist/0",
        "permuted-mnist/1",
        "rotated-mnist/3",
    ]


def test_no_texts_are_no_references() -> None:
    assert parse_references([]) == ()


def test_unknown_stream_suggests_the_nearest() -> None:
    with pytest.raises(InvalidReference, match=r"unknown stream 'rotated-mnst': did you mean rotated-mnist\?"):
        keys("rotated-mnst/3")


def test_stream_like_no_other_lists_all_there_are() -> None:
    with pytest.raises(InvalidReference) as caught:
        keys("zzz/3")
    assert all(name in str(caught.value) for name in STREAMS)


@pytest.mark.parametrize("text", ["rotated-mnist", "", "rotated-mnist-30", "30"])
def test_text_without_a_key_says_what_is_expected(text: str) -> None:
    with pytest.raises(InvalidReference, match="expected STREAM/KEY, STREAM/START:STOP:STEP or folder:PATH"):
        keys(text)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "-1",
        "+1",
        "1.0",
        "1e2",
        " 1",
        "1 ",
        "1\n",
        "٣",
        "1:2:3:4",
        "0:-1",
        "::",
        ":",
        "1:",
        "0x10",
        "1/2",
        "1_0",
    ],
)
def test_key_that_is_no_number_or_slice_is_shown(key: str) -> None:
    with pytest.raises(InvalidReference, match="must be a whole number or START:STOP:STEP") as caught:
        keys(f"rotated-mnist/{key}")
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("key", ["5:5", "5:3", "0:10:0"])
def test_slice_of_nothing_is_refused(key: str) -> None:
    with pytest.raises(InvalidReference, match="names no task"):
        keys(f"rotated-mnist/{key}")


@pytest.mark.parametrize(
    ("text", "key", "last"),
    [
        ("rotated-mnist/360", 360, 359),
        ("rotated-digits/0:400:50", 350, 359),
        ("rotated-digits/0:401:50", 400, 359),
        ("rotated-digits/400:500", 400, 359),
        ("permuted-mnist/2147483648", 2**31, 2**31 - 1),
    ],
)
def test_key_outside_the_stream_names_the_key_and_the_range(text: str, key: int, last: int) -> None:
    if key <= last:
        assert keys(text)[-1] == key
    else:
        with pytest.raises(InvalidReference, match=rf"key {key} is outside 0\.\.{last}"):
            keys(text)


def test_last_key_of_each_stream_is_allowed() -> None:
    assert keys("permuted-mnist/2147483647") == [2**31 - 1]
    assert keys("rotated-mnist/359") == [359]


@pytest.mark.parametrize(
    "texts",
    [
        ("rotated-mnist/3", "rotated-mnist/3"),
        ("rotated-mnist/0:9:3", "rotated-mnist/6"),
        ("rotated-mnist/3", "rotated-mnist/03"),
    ],
)
def test_task_named_twice_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidReference, match=r"rotated-mnist/\d is named twice"):
        keys(*texts)


def test_same_key_of_two_streams_is_two_tasks() -> None:
    assert keys("rotated-mnist/3", "permuted-mnist/3") == [3, 3]


def test_slice_of_too_many_tasks_is_refused_at_once() -> None:
    with pytest.raises(InvalidReference, match=r"names 2,000,000,000 tasks, more than 1,000,000"):
        keys("permuted-mnist/0:2000000000")


@pytest.mark.parametrize(
    "module",
    [
        "impress_learn.streams.reference",
        "impress_learn.streams.table",
        "impress_learn.plan",
        "impress_learn.training.config",
    ],
)
def test_describing_tasks_and_plans_does_not_import_torch(module: str) -> None:
    script = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "text", ["rotated-digits/30", "split-cifar100/3", "folder:/no/such/place::classes", "dataset:cats"]
)
def test_a_reference_pickles_and_copies(text: str) -> None:
    reference = replace(parse_reference(text), remark="read so")
    for other in (pickle.loads(pickle.dumps(reference)), copy.copy(reference), copy.deepcopy(reference)):
        assert (other, hash(other), other.remark) == (reference, hash(reference), "read so")
        assert other.stream is reference.stream


def test_another_process_gets_the_same_reference() -> None:
    """By spawn, so that it has nothing but the pickle."""
    references = parse_references(["rotated-digits/0:30:10"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(str, references) == [str(reference) for reference in references]
        assert tuple(pool.map(copy.copy, references)) == references


def test_a_reference_to_images_in_memory_says_that_it_does_not_pickle() -> None:
    images = STREAMS["rotated-digits"].data_set(0)
    with pytest.raises(TypeError, match="dataset:cats: a reference to images in memory can be neither pickled nor"):
        pickle.dumps(Reference(STREAMS["dataset"], "cats", given=images))


def test_a_dataset_of_ones_own_has_no_images_for_a_command() -> None:
    with pytest.raises(InvalidReference, match=r"dataset:cats: a torch Dataset .* `impress_learn\.add_dataset`"):
        parse_references(["dataset:cats"])
    with pytest.raises(InvalidReference, match="'dataset/3': a torch Dataset of your own"):
        parse_references(["dataset/3"])
    with pytest.raises(
        DataError, match=r"dataset:cats was learned from a torch Dataset .* not stored. Measure it there"
    ):
        parse_reference("dataset:cats").data_set  # noqa: B018
    assert not share_images("dataset:cats", "dataset:dogs")
    assert not share_images("dataset:cats", "rotated-digits/1")
