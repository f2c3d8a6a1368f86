"""Task references: STREAM/KEY and slices of keys, as Python means them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impress_format.errors import InvalidReference
from impress_format.task_file import check_task_name
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
        "impress_learn.fits",
    ],
)
def test_describing_tasks_and_plans_does_not_import_torch(module: str) -> None:
    script = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
