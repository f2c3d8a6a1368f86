"""What docs/format.md demands of tasks, packed or not, where no other test holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import small_bank
from hypothesis import given
from hypothesis import strategies as st
from test_hostile import file_of, split

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import FormatError, UsageError
from impress_format.limits import MAX_TASK_BYTES, MIB
from impress_format.operations.create import write_plan
from impress_format.operations.exchange import export_task, import_tasks
from impress_format.operations.pack import pack_tasks
from impress_format.parts.class_names import store_class_names
from impress_format.parts.head import head_bytes
from impress_format.parts.own_mask import store_own_mask
from impress_format.parts.part import Array
from impress_format.parts.residual import store_residual
from impress_format.parts.table import stored_parts
from impress_format.records.masks import MaskPlan
from impress_format.records.network import BackboneSpec, LayerSpec
from impress_format.tasks.file import seal_parts
from impress_format.tasks.seal import seal_long
from impress_format.tasks.text import TaskText, write_text
from impress_format.weights import backbone_digest


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return small_bank.make(tmp_path / "a.impress")


def test_the_long_form_begins_with_its_record(bank: Bank) -> None:
    """The same header in JSON, with the tensor first: its checksum is right, at the place where it stands then."""
    path = bank.task_path("one")
    header, body = split(small_bank.in_long_form(path.read_bytes()))
    fields = json.loads(header)
    path.write_bytes(file_of(json.dumps(fields, separators=(",", ":")).encode(), body))
    assert verify_bank(bank.path).ok
    moved = {"alpha": fields["alpha"], "__metadata__": fields["__metadata__"]}
    path.write_bytes(file_of(json.dumps(moved, separators=(",", ":")).encode(), body))
    (problem,) = verify_bank(bank.path).problems
    assert (problem.file, problem.error) == ("tasks/one.safetensors", "holds no checksum where one must be")


def network_of(*layers: LayerSpec) -> BackboneSpec:
    return BackboneSpec(
        arch="lenet-300-100",
        init="signed-constant",
        seed=0,
        input_shape=(1, 1, 7),
        classes=3,
        layers=layers,
        digest=backbone_digest(0, "signed-constant", layers),
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("beside", ["alpha", "residual"])
def test_a_mask_of_ones_own_needs_a_layer_before_the_last(tmp_path: Path, beside: str, packed: bool) -> None:
    layer = LayerSpec(name="a.weight", shape=(3, 7))
    random = MaskPlan(kind="random", task=None, density=0.2, seed=13, fit=None)
    bank = write_plan(tmp_path / "a.impress", small_bank.plan_of(network_of(layer), (random,)))
    mask = np.arange(21).reshape(3, 7) < 4
    bank.write_mask(0, {"a.weight": mask}, None)
    others: dict[str, Array] = {
        "alpha": np.zeros(4, dtype=np.uint8),
        "residual": store_residual(np.zeros(8, dtype=np.uint8), np.ones(1, dtype=np.float16), 1),
    }
    record = small_bank.task_record(bank, "own", "rotated-digits/7", masks=int(beside == "alpha"))
    if beside == "residual":
        record = small_bank.changed(record, residual_bits=1)
    parts = stored_parts(mask=store_own_mask(mask), **{beside: others[beside]})
    with pytest.raises(UsageError, match="has a mask of the last layer, and the network has no layer before it"):
        bank.write_task(record, parts)
    bank.task_path("own").write_bytes(seal_parts(Path("own"), write_text(record), parts))
    if packed:
        pack_tasks(bank)
    (problem,) = verify_bank(bank.path).problems
    assert problem.error == "has a mask of the last layer, and the network has no layer before it"
    with pytest.raises(FormatError, match="no layer before it"):
        open_bank(bank.path).read_stored("own")


@pytest.mark.parametrize("packed", [False, True])
def test_classes_are_named_in_one_place(bank: Bank, packed: bool) -> None:
    names = ("bear", "cat", "dog")
    record = small_bank.changed(small_bank.task_record(bank, "named", "rotated-digits/7"), class_names=names)
    parts = stored_parts(alpha=small_bank.ALPHA, classes=store_class_names(names))
    with pytest.raises(UsageError, match="names its classes twice"):
        bank.write_task(record, parts)
    bank.task_path("named").write_bytes(seal_parts(Path("named"), write_text(record), parts))
    if packed:
        pack_tasks(bank)
    (problem,) = verify_bank(bank.path).problems
    assert "names its classes twice" in problem.error
    with pytest.raises(FormatError, match="names its classes twice"):
        open_bank(bank.path).read_stored("named")


HEAD_BITS: tuple[Literal[1, 2, 4, 8], ...] = (1, 2, 4, 8)
LARGE = LayerSpec(name="a.weight", shape=(1 << 12, 1 << 14))


def with_residual(bank: Bank, name: str, size: int) -> None:
    """Add a task whose file takes a little more than so many bytes."""
    record = small_bank.changed(small_bank.task_record(bank, name, "rotated-digits/7", masks=0), residual_bits=8)
    residual = store_residual(np.zeros(size, dtype=np.uint8), np.ones(1, dtype=np.float16), 8)
    bank.write_task(record, stored_parts(residual=residual))


def test_a_task_that_is_stored_is_read_again_however_large(tmp_path: Path) -> None:
    network = BackboneSpec(
        arch="lenet-300-100", init="signed-constant", seed=0, input_shape=(1, 1, 7), classes=3, layers=(LARGE,),
        digest="0" * 64,
    )  # fmt: skip
    bank = write_plan(tmp_path / "a.impress", small_bank.plan_of(network, ()))
    with_residual(bank, "large", 3 * MIB)
    assert len(bank.task_bytes("large")) > 3 * MIB
    assert open_bank(bank.path).read_stored("large").only == "residual"
    export_task(bank, "large", tmp_path / "large.safetensors")
    assert import_tasks(bank, [tmp_path / "large.safetensors"], "again")[0].name == "again"
    with pytest.raises(UsageError, match=f"at most {MAX_TASK_BYTES:,} are read again"):
        with_residual(bank, "too-large", MAX_TASK_BYTES)
    assert bank.task_names() == ["again", "large"]


def test_a_file_that_does_not_come_back_byte_for_byte_is_not_packed(bank: Bank) -> None:
    """The long form of a record with a number that no writer of today writes so: 9e-1 for 0.9."""
    text = write_text(small_bank.task_record(bank, "odd", "rotated-digits/7"))
    own = text.own.replace(b"0.9,", b"9e-1,")
    assert own != text.own
    content = seal_long(TaskText(own, text.shared_bytes), {"alpha": small_bank.ALPHA})
    bank.task_path("odd").write_bytes(content)
    packed = pack_tasks(bank)
    assert (packed.tasks, packed.loose) == (2, 1)
    assert bank.task_path("odd").read_bytes() == content
    assert verify_bank(bank.path).ok


@given(classes=st.integers(1, 12), wanted=st.integers(1, 60), bits=st.sampled_from(HEAD_BITS))
def test_a_writer_stores_no_head_whose_dimensions_its_bytes_do_not_tell(
    classes: int, wanted: int, bits: Literal[1, 2, 4, 8]
) -> None:
    from impress_learn.parts.head import HEAD
    from impress_learn.parts.table import Parts

    assert HEAD.for_classes is not None
    chosen = HEAD.for_classes(Parts(head=wanted, head_bits=bits), classes).head or 0
    assert wanted - 8 < chosen <= wanted
    if chosen:
        value_bits = 8 * (head_bytes(classes, chosen, bits) - 4 * classes)
        assert value_bits // (classes * bits) == chosen
