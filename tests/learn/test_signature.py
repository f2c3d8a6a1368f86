"""Signatures: 64 bytes that tell images of one task from those of others, held to docs/format.md in plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from impress_format.bank_files.task_classifier import StoredTaskClassifier
from impress_format.parts.pixel_signature import check_pixel_signatures
from impress_format.weights import random_words
from impress_learn.recognition.pixel_signature import (
    Signatures,
    _count_ones,
    make_pixel_signature,
    read_signatures,
    recognise,
)
from impress_learn.recognition.task_classifier import (
    TaskClassifier,
    learning_images,
    make_task_classifier,
    signature_images,
    train_task_classifier,
)
from impress_learn.streams.images import Images, ImagesInMemory
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

BASIS = [f"rotated-digits/{angle}" for angle in range(0, 360, 45)]
KNOWN = [f"rotated-digits/{angle}" for angle in range(20, 200, 45)]
SHAPE = (1, 28, 28)
TAG = b"\x12\x34"


def images_of(task: str, *, test: bool = False) -> Images:
    data = load_task(parse_reference(task), data_dir=None)
    return data.test if test else data.train


def signing_part(task: str) -> Images:
    train = images_of(task)
    return train.subset(signature_images(len(train)))


def parts(tasks: list[str]) -> tuple[list[Images], list[Images]]:
    trains = [images_of(task) for task in tasks]
    count = len(trains[0])
    return (
        [train.subset(learning_images(count, len(tasks))) for train in trains],
        [train.subset(signature_images(count)) for train in trains],
    )


@pytest.fixture(scope="module")
def stored() -> StoredTaskClassifier:
    return train_task_classifier(*parts(BASIS), SHAPE, seed=3)


@pytest.fixture(scope="module")
def task_classifier(stored: StoredTaskClassifier) -> TaskClassifier:
    return make_task_classifier(stored, TAG, SHAPE, torch.device("cpu"))


@pytest.fixture(scope="module")
def signatures(task_classifier: TaskClassifier) -> np.ndarray:
    rows = [make_pixel_signature(task_classifier, signing_part(task)) for task in KNOWN]
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, 64)


@pytest.fixture(scope="module")
def known(task_classifier: TaskClassifier, signatures: np.ndarray) -> Signatures:
    return read_signatures(task_classifier, signatures)


def groups_of(task: str, size: int, *, test: bool = True) -> Tensor:
    images = images_of(task, test=test).batch(slice(None))[0]
    return images[: len(images) // size * size].reshape(-1, size, *SHAPE)


# What docs/format.md says, without torch.


def places_by_the_format(stored: StoredTaskClassifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and projections of images (n, D)."""
    x = (images.astype(np.float64) - stored.center) / stored.scale
    hidden = stored.hidden * stored.hidden_step.astype(np.float64)
    positions = np.maximum(x @ hidden + stored.hidden_bias, 0) @ stored.output + stored.output_bias
    count, signs = images.shape[1], 8 * (56 - len(stored.between))
    words = random_words(0, "recogniser", -(-count * signs // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: count * signs].reshape(count, signs)
    return positions, x @ (bits * 2.0 - 1.0) / math.sqrt(count)


def distances_by_the_format(
    stored: StoredTaskClassifier, signature: bytes, positions: np.ndarray, projections: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    m = len(stored.between)
    gain, spread, sign_spread = (2.0 ** ((byte - 128) / 8) for byte in signature[3:6])
    levels = np.frombuffer(signature[8 : 8 + m], dtype=np.int8).astype(np.float64)
    place = levels * 4 * np.sqrt(stored.between) / 127
    signs = np.unpackbits(np.frombuffer(signature[8 + m :], dtype=np.uint8), bitorder="little") * 2.0 - 1.0
    near = ((positions - place) ** 2).sum(1) / (m * spread * share)
    noise = sign_spread * share + gain**2 * (1 - 2 / math.pi)
    far = ((projections - signs * gain * math.sqrt(2 / math.pi)) ** 2).sum(1) / (len(signs) * noise)
    return near, far


def test_images_lie_where_the_format_says(stored: StoredTaskClassifier, task_classifier: TaskClassifier) -> None:
    images = images_of("rotated-digits/33", test=True).batch(slice(0, 20))[0]
    positions, projections = task_classifier.embed(images)
    expected = places_by_the_format(stored, images.flatten(1).numpy())
    np.testing.assert_allclose(positions, expected[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(projections, expected[1], rtol=1e-3, atol=1e-3)


def test_a_signature_holds_what_the_format_says(
    stored: StoredTaskClassifier, task_classifier: TaskClassifier, signatures: np.ndarray
) -> None:
    images = signing_part(KNOWN[0]).batch(slice(None))[0].flatten(1).numpy()
    positions, projections = places_by_the_format(stored, images)
    signature, m = signatures[0].tobytes(), len(stored.between)
    assert signature[:2] == TAG
    levels = np.rint(positions.mean(0) / (4 * np.sqrt(stored.between) / 127))
    assert np.abs(np.frombuffer(signature[8 : 8 + m], dtype=np.int8) - np.clip(levels, -127, 127)).max() <= 1
    mean = projections.mean(0)
    signs = np.unpackbits(np.frombuffer(signature[8 + m :], dtype=np.uint8), bitorder="little")
    assert (signs == (mean > 0))[np.abs(mean) > 1e-3].all()
    near, far = distances_by_the_format(stored, signature, positions, projections, 1.0)
    sizes = [
        len(images),
        math.sqrt((mean**2).mean()),
        positions.var(0, ddof=1).mean(),
        projections.var(0, ddof=1).mean(),
        near.std(),
        far.std(),
    ]
    expected = [round(8 * math.log2(size)) + 128 for size in sizes]
    assert np.abs(np.frombuffer(signature[2:8], dtype=np.uint8) - np.array(expected)).max() <= 1
    # Of its own images a task is as far as the definition of the distances says: 1 on average.
    assert near.mean() == pytest.approx(1.0, abs=0.1)
    assert far.mean() == pytest.approx(1.0, abs=0.1)


def test_scores_are_gaussian_log_likelihoods(
    stored: StoredTaskClassifier, task_classifier: TaskClassifier, signatures: np.ndarray, known: Signatures
) -> None:
    groups = groups_of("rotated-digits/70", 5)[:4]
    found = recognise(task_classifier, known, groups).scores
    flat = places_by_the_format(stored, groups.reshape(20, -1).numpy())
    positions, projections = (one.reshape(4, 5, -1).mean(1) for one in flat)
    m, signs = positions.shape[1], projections.shape[1]
    for task, row in enumerate(signatures):
        count, gain, spread, sign_spread = (2.0 ** ((float(byte) - 128) / 8) for byte in row[2:6])
        share = 1 / 5 + 1 / count
        near, far = distances_by_the_format(stored, row.tobytes(), positions, projections, share)
        noise = sign_spread * share + gain**2 * (1 - 2 / math.pi)
        expected = -0.5 * m * (near + math.log(spread * share))
        expected -= 0.5 * stored.sign_weight * signs * (far + math.log(noise))
        np.testing.assert_allclose(found[:, task], expected, rtol=1e-3, atol=0.05)


@pytest.mark.parametrize(("size", "least"), [(1, 0.6), (4, 0.9), (16, 1.0)])
def test_images_of_other_writers_are_recognised(
    task_classifier: TaskClassifier, known: Signatures, size: int, least: float
) -> None:
    right = [
        float((recognise(task_classifier, known, groups_of(task, size)).scores.argmax(1) == place).float().mean())
        for place, task in enumerate(KNOWN)
    ]
    assert sum(right) / len(right) >= least


def test_images_of_none_of_the_tasks_are_called_so(task_classifier: TaskClassifier, signatures: np.ndarray) -> None:
    known = read_signatures(task_classifier, signatures[:3])

    def called(task: str, size: int) -> float:
        return float(recognise(task_classifier, known, groups_of(task, size)).unknown.float().mean())

    for size in (1, 16):
        assert sum(called(task, size) for task in KNOWN[:3]) / 3 <= 0.05
    assert called(KNOWN[3], 16) == 1.0  # like these, but not stored
    assert called("permuted-digits/1", 1) >= 0.95  # unlike all


def test_a_group_is_compared_as_a_whole_in_whatever_order(task_classifier: TaskClassifier, known: Signatures) -> None:
    groups = groups_of("rotated-digits/110", 8)
    found = recognise(task_classifier, known, groups)
    again = recognise(task_classifier, known, groups.flip(1))
    assert torch.allclose(found.scores, again.scores, rtol=1e-4, atol=1e-2)
    alone = recognise(task_classifier, known, groups[3:4])
    assert torch.allclose(found.scores[3:4], alone.scores, rtol=1e-4, atol=1e-2)
    assert bool(found.unknown[3]) == bool(alone.unknown[0])


def test_scores_do_not_depend_on_what_other_tasks_there_are(
    monkeypatch: pytest.MonkeyPatch, task_classifier: TaskClassifier, signatures: np.ndarray, known: Signatures
) -> None:
    groups = groups_of("rotated-digits/70", 4)[:9]
    many = read_signatures(task_classifier, np.concatenate([signatures] * 5))
    monkeypatch.setattr("impress_learn.recognition.pixel_signature._MOST_SCORES", 3000)  # a few tasks at a time
    assert torch.allclose(
        recognise(task_classifier, many, groups).scores,
        recognise(task_classifier, known, groups).scores.repeat(1, 5),
        rtol=1e-4,
        atol=1e-2,
    )


@settings(max_examples=30)
@given(words=hnp.arrays(np.uint64, st.integers(1, 20), elements=st.integers(0, (1 << 64) - 1)))
def test_ones_are_counted_with_and_without_numpy_2(words: np.ndarray) -> None:
    expected = [int(word).bit_count() for word in words]
    assert _count_ones(words).tolist() == expected
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(np, "bitwise_count"):
            patch.delattr(np, "bitwise_count")
        assert _count_ones(words).tolist() == expected


def test_among_very_many_tasks_a_shortlist_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, task_classifier: TaskClassifier, signatures: np.ndarray
) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (5000, 64), dtype=np.uint8)
    rows[:, :8] = signatures[0, :8]
    for place, row in enumerate(signatures):  # the real ones, and near each a hundred others that differ in a few signs
        near = np.repeat(row[np.newaxis], 100, axis=0)
        near[np.arange(100), 20 + np.arange(100) % 40] ^= 1
        rows[1000 * place : 1000 * place + 100] = near
        rows[1000 * place + 500] = row
    many = read_signatures(task_classifier, rows)
    for place, task in enumerate(KNOWN):
        groups = groups_of(task, 8)[:5]
        short = recognise(task_classifier, many, groups)
        with monkeypatch.context() as patch:
            patch.setattr("impress_learn.recognition.pixel_signature.MOST_WHOLE", 10_000)
            whole = recognise(task_classifier, many, groups)
        assert torch.equal(short.scores.argmax(1), whole.scores.argmax(1))
        assert torch.equal(short.unknown, whole.unknown)
        compared = torch.isfinite(short.scores)
        assert torch.allclose(short.scores[compared], whole.scores[compared], rtol=1e-4, atol=1e-2)
        assert compared.any(0).sum() <= 5 * 256
        assert set((whole.scores.argmax(1) // 1000).tolist()) == {place}


def test_images_are_signed_that_no_recogniser_learned_from() -> None:
    for images in (1000, 1297, 60_000):
        signing, learning = signature_images(images), learning_images(images, 10)
        assert not set(signing.tolist()) & set(learning.tolist())
        assert len(signing) == images // 5
    assert len(learning_images(60_000, 64)) == (1 << 18) // 64
    assert signature_images(50).tolist() == list(range(50))  # few: of so few a fifth would say little


@settings(max_examples=100)
@given(pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), *map(st.just, SHAPE))), scale=st.floats(1e-3, 1e3))
def test_whatever_the_images_are_the_format_takes_their_signature(
    task_classifier: TaskClassifier, pixels: np.ndarray, scale: float
) -> None:
    images = ImagesInMemory(
        torch.from_numpy(pixels), torch.zeros(len(pixels), dtype=torch.int64), (0.5,), (0.25 * scale,)
    )
    row = np.frombuffer(make_pixel_signature(task_classifier, images), dtype=np.uint8)[np.newaxis]
    check_pixel_signatures(row, len(task_classifier.between))
    assert round(float(read_signatures(task_classifier, row).images)) == len(pixels)


def test_of_few_images_a_signature_says_so(task_classifier: TaskClassifier) -> None:
    """One made from 20 images is less sure: images of its task are not called unknown for its own errors."""
    rows = b"".join(
        make_pixel_signature(task_classifier, signing_part(task).subset(torch.arange(0, 250, 13))) for task in KNOWN
    )
    few = read_signatures(task_classifier, np.frombuffer(rows, dtype=np.uint8).reshape(-1, 64))
    assert few.images.tolist() == pytest.approx([20] * len(KNOWN), rel=0.05)
    found = [recognise(task_classifier, few, groups_of(task, 16)) for task in KNOWN]
    assert sum(float(one.unknown.float().mean()) for one in found) / len(KNOWN) <= 0.1


def test_one_task_has_signs_only_and_tells_unlike_tasks_apart() -> None:
    alone = make_task_classifier(
        train_task_classifier(*parts(BASIS[:1]), SHAPE, seed=0), TAG, SHAPE, torch.device("cpu")
    )
    assert alone.between.numel() == 0
    tasks = ["permuted-digits/1", "permuted-digits/2", "rotated-digits/0"]
    rows = np.frombuffer(b"".join(make_pixel_signature(alone, signing_part(task)) for task in tasks), np.uint8).reshape(
        -1, 64
    )
    for place, task in enumerate(tasks):
        found = recognise(alone, read_signatures(alone, rows), groups_of(task, 4))
        assert (found.scores.argmax(1) == place).float().mean() >= 0.95


def test_equal_seeds_give_equal_recognisers_and_other_seeds_others(stored: StoredTaskClassifier) -> None:
    again, other = (train_task_classifier(*parts(BASIS), SHAPE, seed=seed) for seed in (3, 4))
    assert np.array_equal(again.hidden, stored.hidden)
    assert np.array_equal(again.output, stored.output)
    assert not np.array_equal(other.hidden, stored.hidden)


def test_large_images_are_pooled() -> None:
    shape = (3, 40, 50)
    generator = np.random.default_rng(0)
    tasks = []
    for level in (60, 180):
        pixels = torch.from_numpy(generator.integers(0, level, (200, *shape), dtype=np.uint8))
        tasks.append(ImagesInMemory(pixels, torch.zeros(200, dtype=torch.int64), (0.5,) * 3, (0.25,) * 3))
    halves = [[one.subset(torch.arange(start, 200, 2)) for one in tasks] for start in (0, 1)]
    stored = train_task_classifier(halves[0], halves[1], shape, seed=0)
    assert stored.center.shape == (3 * 18 * 18,)
    task_classifier = make_task_classifier(stored, TAG, shape, torch.device("cpu"))
    images = tasks[0].batch(slice(0, 4))[0]
    rows = [[(cell * size // 18, -(-(cell + 1) * size // 18)) for cell in range(18)] for size in shape[1:]]
    pooled = np.array(
        [
            [[[image[c, a:b, d:e].mean() for d, e in rows[1]] for a, b in rows[0]] for c in range(3)]
            for image in images.numpy()
        ]
    )
    positions, _ = task_classifier.embed(images)
    expected, _ = places_by_the_format(stored, pooled.reshape(4, -1))
    np.testing.assert_allclose(positions, expected, rtol=1e-2, atol=1e-2)


def test_constant_images_are_signed_too(stored: StoredTaskClassifier) -> None:
    black = ImagesInMemory(
        torch.zeros(30, *SHAPE, dtype=torch.uint8), torch.zeros(30, dtype=torch.int64), (0.1307,), (0.3081,)
    )
    task_classifier = make_task_classifier(stored, TAG, SHAPE, torch.device("cpu"))
    signature = make_pixel_signature(task_classifier, black)
    found = recognise(
        task_classifier,
        read_signatures(task_classifier, np.frombuffer(signature, np.uint8)[np.newaxis]),
        black.batch(slice(0, 2))[0][None],
    )
    assert torch.isfinite(found.scores).all()
