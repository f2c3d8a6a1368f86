"""Data: what the digits and MNIST are, what a key does to them, and which images are set apart."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.datasets import MNIST

from impress_format.errors import DataError, UsageError
from impress_learn.masks.edge_popup import train_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.streams import images as images_module
from impress_learn.streams.data_dir import default_data_dir
from impress_learn.streams.digits import load_digits
from impress_learn.streams.images import Images, ImagesInMemory, MappedImages, evenly_spread, normalise, transformed
from impress_learn.streams.load import hold_out, load_task, take_shots
from impress_learn.streams.mnist import load_mnist, mnist_problem
from impress_learn.streams.permuted import permute
from impress_learn.streams.reference import Reference, parse_reference
from impress_learn.streams.rotated import rotate
from impress_learn.streams.stream import Key
from impress_learn.training.config import MaskTraining

NOWHERE = Path("nowhere")


def images_of(pixels: Tensor, labels: Tensor | None = None) -> ImagesInMemory:
    """Images with plain normalisation, numbered labels where none are given."""
    return ImagesInMemory(pixels, torch.arange(len(pixels)) if labels is None else labels, mean=(0.5,), std=(0.25,))


def noise(count: int, side: int = 28, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), generator=generator).to(torch.uint8)


def all_of(images: Images) -> Tensor:
    """Every image, uint8."""
    return images.pixels_of(slice(None))


def block(side: int = 28) -> Tensor:
    """A bright block to the right of the centre, on black: (1, 1, side, side)."""
    pixels = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    pixels[..., 12:16, 20:24] = 255
    return pixels


# The embedded digits


def test_embedded_digits_are_those_of_scikit_learn() -> None:
    reference = sklearn.datasets.load_digits()
    train, test = load_digits()
    assert torch.cat([train.labels, test.labels]).tolist() == reference.target.tolist()
    large = torch.cat([all_of(train), all_of(test)])[:, 0].double().numpy()

    # Bilinear, aligned at the edges: row r of 28 lies at (r + 0.5) * 8 / 28 - 0.5 of the 8 rows there are.
    place = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    spread = np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(8)[None]))
    expected = np.einsum("rh,nhw,cw->nrc", spread, reference.images * 255.0 / 16.0, spread)
    assert np.abs(large - expected).max() <= 0.5 + 1e-3


def test_digits_are_split_1297_to_500_and_always_alike() -> None:
    train, test = load_digits()
    load_digits.cache_clear()
    again = load_digits()
    assert (len(train), len(test)) == (1297, 500)
    assert all_of(train).shape[1:] == (1, 28, 28)
    assert all_of(train).dtype == torch.uint8
    assert torch.equal(all_of(again[0]), all_of(train))
    assert torch.equal(all_of(again[1]), all_of(test))


def test_no_test_digit_is_a_training_digit() -> None:
    train, test = load_digits()
    assert not {image.numpy().tobytes() for image in all_of(train)} & {
        image.numpy().tobytes() for image in all_of(test)
    }


def test_normalised_training_digits_have_mean_0_and_deviation_1() -> None:
    images, _ = load_digits()[0].batch(slice(None))
    assert abs(float(images.double().mean())) < 0.01
    assert abs(float(images.double().std()) - 1.0) < 0.01


@given(seed=st.integers(0, 1000), channels=st.integers(1, 3))
def test_normalise_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (2, channels, 3, 4), dtype=np.uint8)
    mean, std = rng.random(channels), rng.random(channels) + 0.1
    expected = (pixels / 255.0 - mean[:, None, None]) / std[:, None, None]
    found = normalise(torch.from_numpy(pixels), tuple(mean), tuple(std))
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-4, atol=1e-5)


# Rotation


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2), (270, 3)])
def test_rotation_by_quarters_is_exact_and_counter_clockwise(degrees: int, quarters: int) -> None:
    images = noise(4)
    expected = torch.rot90(images, quarters, dims=(2, 3))
    assert int((rotate(images, degrees).int() - expected.int()).abs().max()) <= 1


@pytest.mark.parametrize("degrees", [30, 60])
def test_a_key_turns_what_is_right_of_the_centre_upwards(degrees: int) -> None:
    turned = rotate(block(), degrees)[0, 0].double().numpy()
    rows, columns = np.indices(turned.shape) - 13.5
    angle = np.degrees(np.arctan2(-(turned * rows).sum(), (turned * columns).sum()))
    assert angle == pytest.approx(degrees, abs=1.0)


def test_rotation_by_0_changes_nothing() -> None:
    images = noise(3)
    assert torch.equal(rotate(images, 0), images)


def test_rotation_by_180_twice_is_the_identity_up_to_rounding() -> None:
    images = noise(3)
    assert int((rotate(rotate(images, 180), 180).int() - images.int()).abs().max()) <= 1


def test_rotation_there_and_back_keeps_what_is_near_the_centre(digits: tuple[Images, Images]) -> None:
    images = all_of(digits[0])[:50]
    back = rotate(rotate(images, 45), 315)
    difference = (back.double() - images.double())[..., 9:19, 9:19]
    assert float(difference.abs().mean()) < 10.0


def test_rotation_brings_in_black_corners() -> None:
    turned = rotate(torch.full((1, 1, 28, 28), 255, dtype=torch.uint8), 45)[0, 0]
    assert [int(turned[row, column]) for row in (0, 27) for column in (0, 27)] == [0, 0, 0, 0]
    assert int(turned[14, 14]) == 255


def test_every_image_of_a_task_is_turned_alike_however_many_there_are() -> None:
    one = block()
    turned = all_of(transformed(images_of(one.expand(10_001, 1, 28, 28)), lambda pixels: rotate(pixels, 33)))
    assert torch.equal(turned, rotate(one, 33).expand_as(turned))


# Permutation


@given(key=st.integers(0, 2**31 - 1))
def test_permuting_keeps_every_pixel_once(key: int) -> None:
    numbered = (torch.arange(225) % 256).to(torch.uint8).reshape(1, 1, 15, 15)
    assert sorted(permute(numbered, key).flatten().tolist()) == list(range(225))


def test_train_and_test_images_and_all_channels_are_permuted_alike() -> None:
    one = noise(1)
    assert torch.equal(permute(one.expand(5, 3, 28, 28), 7), permute(one, 7).expand(5, 3, 28, 28))


def test_neighbouring_keys_give_unrelated_permutations() -> None:
    numbered = (torch.arange(225) % 256).to(torch.uint8).reshape(1, 1, 15, 15)
    orders = np.array([permute(numbered, key).flatten().tolist() for key in range(200)])
    agreements = [(orders[i] == orders[i + 1]).sum() for i in range(199)]  # Poisson of mean 1 each
    assert max(agreements) < 10
    assert abs(sum(agreements) - 199) < 5 * np.sqrt(199)


def test_permutation_of_a_key_is_the_same_on_every_machine() -> None:
    numbered = (torch.arange(225) % 256).to(torch.uint8).reshape(1, 1, 15, 15)
    assert permute(numbered, 0).flatten()[:8].tolist() == [178, 81, 211, 91, 72, 166, 23, 70]


def test_load_task_permutes_train_and_test_with_its_key() -> None:
    plain = load_task(parse_reference("rotated-digits/0"), data_dir=NOWHERE)
    task = load_task(parse_reference("permuted-digits/11"), data_dir=NOWHERE)
    for split in ("train", "test"):
        before, after = getattr(plain, split), getattr(task, split)
        assert torch.equal(all_of(after), permute(all_of(before), 11))
        assert torch.equal(after.labels, before.labels)


def test_load_task_rotates_train_and_test_with_its_key() -> None:
    plain = load_task(parse_reference("rotated-digits/0"), data_dir=NOWHERE)
    task = load_task(parse_reference("rotated-digits/90"), data_dir=NOWHERE)
    for split in ("train", "test"):
        expected = torch.rot90(all_of(getattr(plain, split)), 1, dims=(2, 3))
        assert int((all_of(getattr(task, split)).int() - expected.int()).abs().max()) <= 1


# Images in memory, and images in a file


def in_a_file(pixels: Tensor, folder: Path) -> MappedImages:
    """The same images as `images_of` gives, in a file."""
    np.save(folder / "pixels.npy", pixels.numpy())
    numbers = torch.arange(len(pixels))
    return MappedImages(np.load(folder / "pixels.npy", mmap_mode="r"), numbers, numbers, mean=(0.5,), std=(0.25,))


def test_images_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    pixels = noise(50)
    memory, file = images_of(pixels), in_a_file(pixels, tmp_path)
    chosen = torch.tensor([3, 49, 3, 0])
    for indices in (slice(None), slice(7, 20), chosen):
        for one, other in zip(memory.batch(indices), file.batch(indices), strict=True):
            assert torch.equal(one, other)
    some = file.subset(chosen).subset(torch.tensor([1, 3]))
    assert (len(some), some.labels.tolist()) == (2, [49, 0])
    assert torch.equal(all_of(some), pixels[[49, 0]])


def test_a_task_too_large_for_memory_is_turned_batch_by_batch_and_learned_alike(
    tmp_path: Path, lenet: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(96)
    labels = torch.arange(96) % 10
    file = replace(in_a_file(pixels, tmp_path), labels=labels)

    def turn(pixels: Tensor) -> Tensor:
        return rotate(pixels, 33)

    kept = transformed(file, turn)
    monkeypatch.setattr(images_module, "MOST_IN_MEMORY", 95 * 28 * 28)
    read = transformed(file, turn)
    assert isinstance(kept, ImagesInMemory)
    assert isinstance(read, MappedImages)
    masks = [
        train_supermask(
            lenet, images, MaskTraining(epochs=2, batch_size=32), density=0.1, score_seed=0, on_step=lambda: None
        )
        for images in (kept, read)
    ]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


@pytest.mark.parametrize("in_file", [False, True])
def test_images_are_augmented_in_training_only(tmp_path: Path, in_file: bool) -> None:
    pixels = noise(20)
    plain = in_a_file(pixels, tmp_path) if in_file else images_of(pixels)

    def brighter(images: Tensor, generator: torch.Generator) -> Tensor:
        return images + torch.rand(len(images), 1, 1, 1, generator=generator)

    images = replace(plain, augment=brighter)
    first, again = (images.batch(slice(0, 5), torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, plain.batch(slice(0, 5))[0])
    assert torch.equal(images.batch(slice(0, 5))[0], plain.batch(slice(0, 5))[0])


def test_a_stream_augments_training_images_alone() -> None:
    stream = replace(parse_reference("rotated-digits/30").stream, augment=lambda images, _: images * 0)
    data = load_task(Reference(stream, 30), data_dir=NOWHERE, holdout=0.1)
    generator = torch.Generator()
    assert not data.train.batch(slice(0, 5), generator)[0].any()
    assert data.validation.batch(slice(0, 5), generator)[0].any()
    assert data.test.batch(slice(0, 5), generator)[0].any()


# Held-out images and few shots


@given(count=st.integers(1, 400), fraction=st.floats(0.0, 1.0, exclude_max=True))
def test_hold_out_covers_all_images_once_and_always_the_same(count: int, fraction: float) -> None:
    assume(fraction == 0 or 0 < round(fraction * count) < count)
    images = images_of(torch.zeros(count, 1, 1, 1, dtype=torch.uint8))
    kept, held = hold_out(images, fraction)
    assert len(held) == round(fraction * count)
    assert sorted(kept.labels.tolist() + held.labels.tolist()) == list(range(count))
    assert torch.equal(hold_out(images, fraction)[1].labels, held.labels)


def test_held_out_digits_are_of_every_class_and_from_everywhere(digits: tuple[Images, Images]) -> None:
    _, held = hold_out(digits[0], 0.2)
    assert set(held.labels.tolist()) == set(range(10))
    _, numbers = hold_out(images_of(torch.zeros(1297, 1, 1, 1, dtype=torch.uint8)), 0.2)
    assert float(numbers.labels.double().mean()) == pytest.approx(648, abs=5 * 374 / np.sqrt(259))


def test_measured_images_are_the_test_images_unless_some_are_held_out() -> None:
    reference = parse_reference("rotated-digits/0")
    plain = load_task(reference, data_dir=NOWHERE)
    held = load_task(reference, data_dir=NOWHERE, holdout=0.1)
    assert (len(plain.train), len(plain.measured(holdout=0.0))) == (1297, 500)
    assert (len(held.train), len(held.measured(holdout=0.1)), len(held.test)) == (1167, 130, 500)


@given(shots=st.integers(1, 20), seed=st.integers(0, 2**53 - 1))
def test_take_shots_gives_exactly_so_many_of_each_class(shots: int, seed: int) -> None:
    train, _ = load_digits()
    taken = take_shots(train, shots, seed)
    assert torch.bincount(taken.labels, minlength=10).tolist() == [shots] * 10


def test_take_shots_takes_each_image_once_and_another_choice_for_another_seed() -> None:
    labels = torch.arange(200) % 10
    numbered = images_of(torch.arange(200).to(torch.uint8).reshape(-1, 1, 1, 1), labels)
    first, again, other = (all_of(take_shots(numbered, 8, seed)).flatten().tolist() for seed in (1, 1, 2))
    assert len(set(first)) == 80
    assert first == again
    assert first != other


def test_take_shots_says_which_class_has_too_few() -> None:
    labels = torch.tensor([0] * 9 + [1] * 3)
    with pytest.raises(UsageError, match="`shots` 4: class 1 has only 3 training images"):
        take_shots(images_of(torch.zeros(12, 1, 1, 1, dtype=torch.uint8), labels), 4, seed=0)


# MNIST


def test_mnist_is_the_published_set(mnist_dir: Path) -> None:
    train, test = load_mnist(mnist_dir)
    assert (tuple(all_of(train).shape), tuple(all_of(test).shape)) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert torch.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_normalised_mnist_has_mean_0_and_deviation_1(mnist_dir: Path) -> None:
    images, _ = load_mnist(mnist_dir)[0].batch(slice(0, 20_000))
    assert abs(float(images.mean())) < 0.01
    assert abs(float(images.std()) - 1.0) < 0.01


def test_rotated_mnist_is_mnist_turned(mnist_dir: Path) -> None:
    task = load_task(parse_reference("rotated-mnist/270"), data_dir=mnist_dir)
    plain = load_mnist(mnist_dir)[1]
    assert int((all_of(task.test).int() - torch.rot90(all_of(plain), 3, dims=(2, 3)).int()).abs().max()) <= 1


def idx(*sides: int, magic: int, fill: int = 0, item: int = 1) -> bytes:
    """A file in the idx format of MNIST's home page: magic number, sides, content."""
    return struct.pack(f">{1 + len(sides)}I", magic, *sides) + bytes([fill]) * (int(np.prod(sides)) * item)


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder `raw` of an MNIST of 20 and 10 black images; torchvision finds no network."""

    def no_network(*_: object) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(MNIST, "download", no_network)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 20), ("t10k", 10)):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(count, 28, 28, magic=0x803))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(count, magic=0x801))
    load_mnist.cache_clear()
    yield raw
    load_mnist.cache_clear()


def test_well_formed_files_that_are_not_mnist_do_not_pass_for_it(small_mnist: Path) -> None:
    with pytest.raises(DataError, match=r"is not the published file \(15,696 bytes, SHA-256 \w{12}…"):
        load_mnist(small_mnist.parents[1])


@pytest.mark.parametrize("layout", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("dotted", [False, True])
def test_mnist_is_found_however_it_was_unpacked(mnist_dir: Path, tmp_path: Path, layout: str, dotted: bool) -> None:
    raw = tmp_path / layout
    raw.mkdir(parents=True, exist_ok=True)
    for path in (mnist_dir / "MNIST" / "raw").glob("*-ubyte"):
        (raw / (path.name.replace("-idx", ".idx") if dotted else path.name)).symlink_to(path)
    train, test = load_mnist(tmp_path)
    load_mnist.cache_clear()
    assert (len(train), len(test)) == (60_000, 10_000)


@pytest.mark.parametrize("missing", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_missing_mnist_without_a_network_names_the_folder_and_what_to_do(small_mnist: Path, missing: str) -> None:
    (small_mnist / missing).unlink()
    folder = small_mnist.parents[1]
    with pytest.raises(DataError) as caught:
        load_mnist(folder)
    message = str(caught.value)
    for part in (f"MNIST is not in {folder}", str(small_mnist), "`data_dir`", "$IMPRESS_DATA", "rotated-digits"):
        assert part in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("train-images-idx3-ubyte", b"", id="empty"),
        pytest.param("train-images-idx3-ubyte", idx(20, 28, 28, magic=0x803)[:10], id="header cut"),
        pytest.param("train-images-idx3-ubyte", b"<html>404 not found</html>" * 40, id="a web page"),
        pytest.param("t10k-labels-idx1-ubyte", b"\x1f\x8b\x08\x00" + bytes(100), id="still gzipped"),
        pytest.param("train-images-idx3-ubyte", idx(20, 28, magic=0x802), id="two axes"),
        pytest.param(
            "train-images-idx3-ubyte",
            idx(20, 28, 28, magic=0x803)[:500],
            id="content cut",
        ),
        pytest.param(
            "t10k-labels-idx1-ubyte",
            idx(10, magic=0x801) + b"\0",
            id="a byte too many",
        ),
        pytest.param(
            "train-images-idx3-ubyte",
            idx(20, 28, 28, magic=0xA03),
            id="unknown item type",
        ),
        pytest.param(
            "train-images-idx3-ubyte",
            idx(20, 28, 28, magic=0xD03, item=4),
            id="floats",
        ),
        pytest.param(
            "train-labels-idx1-ubyte",
            idx(10, magic=0x801),
            id="fewer labels than images",
        ),
        pytest.param(
            "train-labels-idx1-ubyte",
            idx(20, magic=0x801, fill=12),
            id="label 12",
        ),
        pytest.param(
            "train-images-idx3-ubyte",
            idx(20, 32, 32, magic=0x803),
            id="32x32",
        ),
    ],
)
def test_damaged_mnist_is_named(small_mnist: Path, name: str, content: bytes) -> None:
    (small_mnist / name).write_bytes(content)
    problem = mnist_problem(small_mnist)
    assert problem is not None
    with pytest.raises(DataError, match="delete it and fetch MNIST again") as caught:
        load_mnist(small_mnist.parents[1])
    assert problem in str(caught.value)


def test_one_damaged_file_among_the_published_ones_is_the_one_named(mnist_dir: Path, tmp_path: Path) -> None:
    for path in (mnist_dir / "MNIST" / "raw").glob("*-ubyte"):
        (tmp_path / path.name).symlink_to(path)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[5000] ^= 1
    labels.unlink()
    labels.write_bytes(content)
    assert str(labels) in str(mnist_problem(tmp_path))


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMPRESS_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataError, match="IMPRESS_DATA or give `data_dir`"):
        default_data_dir()
    assert len(load_task(parse_reference("rotated-digits/0"), data_dir=None).train) == 1297


def test_the_home_in_impress_data_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IMPRESS_DATA", "~/data")
    assert default_data_dir() == tmp_path / "data"


def test_measuring_turns_no_training_image() -> None:
    turned: list[int] = []

    def counted(pixels: Tensor, degrees: Key) -> Tensor:
        turned.append(len(pixels))
        return rotate(pixels, degrees)

    plain = parse_reference("rotated-digits/30")
    reference = Reference(replace(plain.stream, transform=counted), 30)
    assert len(load_task(reference, data_dir=NOWHERE).measured(holdout=0.0)) == 500
    assert len(load_task(reference, data_dir=NOWHERE, holdout=0.1).measured(holdout=0.1)) == 130
    assert turned == [500, 130]


@given(
    count=st.integers(2, 400), small=st.floats(0.0, 1.0, exclude_max=True), large=st.floats(0.0, 1.0, exclude_max=True)
)
def test_held_out_sets_are_nested(count: int, small: float, large: float) -> None:
    assume(small <= large and all(fraction == 0 or 0 < round(fraction * count) < count for fraction in (small, large)))
    images = images_of(torch.zeros(count, 1, 1, 1, dtype=torch.uint8))
    inner, outer = (set(hold_out(images, fraction)[1].labels.tolist()) for fraction in (small, large))
    assert inner <= outer


@given(there=st.integers(1, 100_000), most=st.integers(1, 5000), fill=st.booleans(), nearest=st.booleans())
def test_images_are_chosen_from_the_first_to_the_last_in_even_steps(
    there: int, most: int, fill: bool, nearest: bool
) -> None:
    chosen = evenly_spread(there, most, fill=fill, nearest=nearest)
    assert len(chosen) == (most if fill else min(there, most))
    assert chosen[0] == 0
    assert chosen[-1] == (there - 1 if len(chosen) > 1 else 0)
    even = np.linspace(0, there - 1, len(chosen))  # in float64, where the last bits are others
    off = chosen.numpy() - even
    slack = 0.5 if nearest else 1.0
    assert (-slack - 0.05 <= off).all()
    assert (off <= (slack if nearest else 0.0) + 0.05).all()


def test_few_images_are_all_taken_once_or_as_often_as_asked() -> None:
    assert evenly_spread(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spread(3, 5, fill=True).tolist() == [0, 0, 1, 1, 2]
    assert evenly_spread(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spread(10, 3).tolist() == [0, 4, 9]
    assert evenly_spread(7, 3, nearest=True).tolist() == [0, 3, 6]
    assert evenly_spread(8, 5, nearest=True).tolist() == [0, 2, 4, 5, 7]
