"""Banks of every format version stay readable for ever, and docs/format.md alone is enough to read them.

`tests/golden/vN/digits.impress` is a real bank: LeNet, two masks of the embedded digits and two tasks, one of them with
granularity 3; from version 2 on a third as int8, the first two in packs, two with residuals, one of them without
alpha, and one with a mask of its own; two more masks, signed and real. Beside it stand an input and what its tasks made
of it. The files of the tasks of v2 have the long form that was written first, in v2-short the same tasks have the short
one. They were made by drafts of version 2 and stay as they are (test_frozen_format.py).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import small_bank

from impress_format import open_bank, verify_bank
from impress_format.container.codec import decode_mask
from impress_format.operations.pack import pack_tasks
from impress_format.parts.residual import hash_places, restore_residual
from impress_format.records.network import LayerSpec
from impress_format.tasks.file import seal_parts, take_apart
from impress_format.versions import FORMAT_VERSION
from impress_format.weights import layer_weights, random_words

GOLDEN = Path(__file__).parents[1] / "golden"
DOCS = Path(__file__).parents[2] / "docs"
LONG = f"v{FORMAT_VERSION}"
SHORT = f"{LONG}-short"
VERSIONS = [*(f"v{version}" for version in range(1, FORMAT_VERSION + 1)), SHORT]


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_banks_of_every_version_verify(version: str) -> None:
    outcome = verify_bank(GOLDEN / version / "digits.impress")
    assert (outcome.checked, outcome.problems) == ({"v1": 5, "v2": 13, "v2-short": 13}[version], ())


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_banks_of_every_version_hold_what_they_held(version: str) -> None:
    bank = open_bank(GOLDEN / version / "digits.impress")
    expected = json.loads((GOLDEN / version / "expected.json").read_text())
    assert bank.manifest.format_version == int(version[1])
    assert [bank.read_mask(index)[0].bits for index in range(len(expected["bits"]))] == expected["bits"]
    for name, task in expected["tasks"].items():
        assert bank.read_task(name)[1].tolist() == task["alpha"]
        assert small_bank.alpha_type(bank.read_stored(name)) == task.get("type", "float32")
        stored = bank.read_stored(name)
        for part in ("residual", "mask"):
            values = stored.values.get(part)
            assert (values if values is None else np.asarray(values).tolist()) == task.get(part)
    assert bank.task_names() == list(expected["tasks"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_reader_of_the_docs_gives_the_stored_logits(version: str, reader: ModuleType) -> None:
    folder = GOLDEN / version
    expected = json.loads((folder / "expected.json").read_text())
    images = np.load(folder / "input.npy", allow_pickle=False)
    for name, task in expected["tasks"].items():
        found = reader.logits(folder / "digits.impress", name, images)
        np.testing.assert_allclose(found, task["logits"], rtol=1e-4, atol=1e-4)


def in_short_form(content: bytes) -> bytes:
    """The same task in the form that is written today."""
    apart = take_apart(Path("task"), content)
    assert apart is not None
    return seal_parts(Path("task"), apart.text, apart.parts)


@pytest.mark.parametrize(
    ("given", "form", "expected"),
    [(LONG, in_short_form, SHORT), (SHORT, small_bank.in_long_form, LONG), (SHORT, in_short_form, SHORT)],
)
def test_either_form_of_the_files_of_tasks_gives_the_other_byte_for_byte(
    given: str, form: Callable[[bytes], bytes], expected: str, tmp_path: Path
) -> None:
    bank = Path(shutil.copytree(GOLDEN / given / "digits.impress", tmp_path / "a.impress"))
    put_tasks_in(bank, form)
    assert contents(bank) == contents(GOLDEN / expected / "digits.impress")


def contents(bank: Path) -> dict[str, bytes]:
    return {str(path.relative_to(bank)): path.read_bytes() for path in sorted(bank.rglob("*")) if path.is_file()}


def put_tasks_in(bank: Path, form: Callable[[bytes], bytes]) -> None:
    """Write the file of every task anew in another form, in a pack if it was in one."""
    opened = open_bank(bank)
    loose = opened.tasks.snapshot().loose
    files = {name: form(opened.task_bytes(name)) for name in opened.task_names()}
    shutil.rmtree(bank / "packs")
    for name in files.keys() - set(loose):
        opened.task_path(name).write_bytes(files[name])
    for name in loose:
        opened.task_path(name).unlink()
    pack_tasks(open_bank(bank))
    for name in loose:
        opened.task_path(name).write_bytes(files[name])
    for lock in bank.rglob(".lock"):
        lock.unlink()


def test_the_reader_of_the_docs_notices_a_changed_byte(reader: ModuleType, tmp_path: Path) -> None:
    bank = Path(shutil.copytree(GOLDEN / VERSIONS[-1] / "digits.impress", tmp_path / "a.impress"))
    path = bank / "masks" / "00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssertionError, match="damaged"):
        reader.logits(bank, "rotated-digits-30", np.zeros((1, 784), np.float32))


def test_the_worked_example_of_the_format_is_right() -> None:
    text = (DOCS / "format.md").read_text()
    example = text.partition("## Worked example")[2]
    frame = bytes.fromhex("".join(re.findall(r"^    ([0-9a-f ]+?)  ", example, flags=re.MULTILINE)))
    layer = LayerSpec(name="a", shape=(2, 3))
    mask = decode_mask(frame, layer.shape, 3)[0]
    (word,) = re.findall(r"first word of `impress/0/a` is `([0-9a-f]{16})`", example)
    assert int(random_words(0, "a", 1)[0]) == int(word, 16)
    rows = re.findall(r"^    \[(.*?)\]  (.*?)$", example, flags=re.MULTILINE)
    written = {
        name.strip(): np.array([[float(x) for x in row.split()] for row in body.split(";")]) for body, name in rows
    }
    c = np.sqrt(2 / 3)
    assert np.array_equal(written["mask"], mask)
    signs = layer_weights(0, "signed-constant", layer) / c
    assert np.allclose(written["signs of the weights"], signs)
    assert np.allclose(written["effective weights over c, with alpha = 0.5"], 0.5 * signs * mask)
    (text_of_residual,) = re.findall(r"values of 2 bits, `([0-9a-f ]+)`", example)
    stored = np.frombuffer(bytes.fromhex(text_of_residual), dtype=np.uint8)
    values = restore_residual(stored, 2, [layer])[hash_places(0, layer, 4)].reshape(layer.shape)
    assert np.array_equal(written["values of the weights"], values)
    both = written["effective weights over c, with alpha = 0.5 and the residual"]
    assert np.allclose(both, (0.5 * mask + values) * signs)
    words = [f"{int(word):016x}" for word in random_words(0, "residual/a", 3)]
    assert re.findall(r"`([0-9a-f]{16})`", example.partition("impress/0/residual/a")[2])[:3] == words
