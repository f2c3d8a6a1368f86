"""A bank small enough to flip every bit of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from impress_format.bank import Bank
from impress_format.bank_files.adaptation import StoredAdaptation
from impress_format.bank_files.calibration import CALIBRATION, StoredCalibration
from impress_format.bank_files.projection import PROJECTION, StoredProjection
from impress_format.bank_files.task_classifier import TASK_CLASSIFIER, StoredTaskClassifier
from impress_format.container.header import in_file_order
from impress_format.operations.create import write_plan
from impress_format.parts.alpha import ALPHA as ALPHA_PART
from impress_format.parts.numbers import NumberType
from impress_format.parts.part import Part
from impress_format.parts.signature import SIGNATURE
from impress_format.parts.table import Settings, stored_parts
from impress_format.records.fields import SIGNATURE_BYTES, TAG_BYTES
from impress_format.records.manifest import BankManifest, MadeWith, Preprocess
from impress_format.records.masks import MaskPlan
from impress_format.records.network import BackboneSpec, LayerSpec, PretrainedRecord
from impress_format.records.training import MaskTrainingRecord, TaskTrainingRecord
from impress_format.tasks.file import StoredTask, take_apart
from impress_format.tasks.record import TaskRecord
from impress_format.tasks.seal import seal_long
from impress_format.versions import FORMAT_VERSION
from impress_format.weights import backbone_digest

T = TypeVar("T")

_SETTINGS = {
    "granularity": ("alpha", "granularity"),
    "residual_bits": ("residual", "bits"),
    "residual_layers": ("residual", "layers"),
    "head_bits": ("head", "bits"),
    "classes": ("classes", "count"),
}


def settings(**declared: int) -> Settings:
    """Settings of parts by the names that docs/format.md has for them."""
    given = Settings()
    for name, value in declared.items():
        part, field = _SETTINGS[name]
        changed = msgspec.structs.replace(getattr(given, part), **{field: value})
        given = msgspec.structs.replace(given, **{part: changed})
    return given


def changed(record: TaskRecord, **changes: Any) -> TaskRecord:
    """A record with other fields, settings of parts among them."""
    declared = {name: changes.pop(name) for name in _SETTINGS if name in changes}
    return msgspec.structs.replace(record, **changes, **({"settings": settings(**declared)} if declared else {}))


def known(fit: TaskTrainingRecord | None) -> TaskTrainingRecord:
    """How a task was learned, of one that did not come as a packet."""
    assert fit is not None
    return fit


def alpha_type(stored: StoredTask) -> NumberType | None:
    """What a task's alpha is stored in."""
    alpha = ALPHA_PART.of(stored)
    return None if alpha is None else alpha.type


def part(which: Part[Any, T], stored: StoredTask) -> T:
    """What a task has of a part that it must have."""
    value = which.of(stored)
    assert value is not None
    return value


def signature_of(bank: Bank, name: str) -> bytes | None:
    """The signature of a stored task."""
    return SIGNATURE.of(bank.read_stored(name))


def in_long_form(content: bytes) -> bytes:
    """The same task in the form that was written before the short one."""
    apart = take_apart(Path("task"), content)
    assert apart is not None
    return seal_long(apart.text, in_file_order(apart.parts))


LAYERS = (LayerSpec(name="a.weight", shape=(5, 7)), LayerSpec(name="b.weight", shape=(3, 5)))
DENSITY = 0.2
ONES = (7, 3)
PIXELS = np.arange(28, dtype=np.uint8).reshape(4, 1, 1, 7)
THEIRS = PretrainedRecord(source="file:some.safetensors", tensors={"a.weight": "0" * 64})
ALPHA = np.array([[0.5, -1.25], [2.0, 0.125]], dtype=np.float32)


def spec(seed: int = 0) -> BackboneSpec:
    return BackboneSpec(
        arch="lenet-300-100",
        init="signed-constant",
        seed=seed,
        input_shape=(1, 1, 7),
        classes=3,
        layers=LAYERS,
        digest=backbone_digest(seed, "signed-constant", LAYERS),
    )


def plan(task: str, seed: int, density: float = DENSITY) -> MaskPlan:
    fit = MaskTrainingRecord(epochs=1, batch_size=64, lr=4.0, seed=seed + 1, holdout=0.0)
    return MaskPlan(kind="heterogeneous", task=task, density=density, seed=seed, fit=fit)


PLANS = (
    plan("rotated-digits/0", 11),
    plan("rotated-digits/90", 12),
    MaskPlan(kind="random", task=None, density=DENSITY, seed=13, fit=None),
)


def manifest(
    seed: int = 0, plans: tuple[MaskPlan, ...] = PLANS, *, calibration: bool = False, task_classifier: bool = False
) -> BankManifest:
    return plan_of(spec(seed), plans, calibration=calibration, task_classifier=task_classifier)


def plan_of(
    spec: BackboneSpec, plans: tuple[MaskPlan, ...], *, calibration: bool = False, task_classifier: bool = False
) -> BankManifest:
    """The manifest of a bank over this backbone."""
    channels, height, width = spec.input_shape
    return BankManifest(
        format_version=FORMAT_VERSION,
        made_with=MadeWith(impress="0.1.0", torch="2.6.0", timm="1.0.20", numpy="1.26.4"),
        seed=spec.seed,
        preprocess=Preprocess(
            mode="L" if channels == 1 else "RGB",
            size=(height, width),
            interpolation="bilinear",
            mean=(0.25,) * channels,
            std=(0.5,) * channels,
        ),
        class_names=tuple(f"class {number}" for number in range(spec.classes)),
        backbone=spec,
        masks=plans,
        calibration=calibration,
        recogniser=task_classifier,
    )


def some_calibration() -> StoredCalibration:
    """As `make` stores them."""
    return StoredCalibration(pixels=PIXELS, mean=(0.25,), std=(0.5,))


def some_recogniser() -> StoredTaskClassifier:
    """For inputs of seven values: two hidden units, one position."""
    return StoredTaskClassifier(
        center=np.linspace(-1, 1, 7).astype(np.float16),
        scale=np.linspace(0.5, 2, 7).astype(np.float16),
        hidden=np.arange(-7, 7, dtype=np.int8).reshape(7, 2),
        hidden_step=np.array([0.5, 0.25], dtype=np.float32),
        hidden_bias=np.array([0.125, -1.0], dtype=np.float32),
        output=np.array([[1.0], [-2.0]], dtype=np.float32),
        output_bias=np.array([0.5], dtype=np.float32),
        between=np.array([3.0], dtype=np.float32),
        sign_weight=0.25,
    )


def signature(bank: Bank, fill: int = 7) -> bytes:
    """One that this bank's recogniser might have made, of 16 images."""
    return bank.identity.signature_tag() + bytes([160] + [fill] * (SIGNATURE_BYTES - TAG_BYTES - 1))


def mask(seed: int) -> dict[str, np.ndarray]:
    """One supermask with the planned number of ones in every layer."""
    generator = np.random.default_rng(seed)
    masks = {}
    for layer, ones in zip(LAYERS, ONES, strict=True):
        flat = np.zeros(layer.size, dtype=np.bool_)
        flat[generator.permutation(layer.size)[:ones]] = True
        masks[layer.name] = flat.reshape(layer.shape)
    return masks


def task_record(bank: Bank, name: str, task: str, masks: int = 2) -> TaskRecord:
    fit = TaskTrainingRecord(epochs=3, lr=0.03)
    basis = bank.basis_digest(masks)
    return TaskRecord(name=name, task=task, basis=basis, accuracy=0.9, train_accuracy=0.95, fit=fit)


def make(path: Path, seed: int = 0, *, calibration: bool = False, task_classifier: bool = False) -> Bank:
    """Three masks, and two tasks over the first two of them; if asked, with calibration images, and with a recogniser
    and signatures of masks and tasks.
    """
    bank = write_plan(path, manifest(seed, calibration=calibration, task_classifier=task_classifier))
    if task_classifier:
        bank.files.write(TASK_CLASSIFIER, some_recogniser())
    signed = signature(bank) if task_classifier else None
    if calibration:
        bank.files.write(CALIBRATION, some_calibration())
    for index in range(len(PLANS)):
        if PLANS[index].kind == "random":
            bank.write_mask(index, mask(index), None)
        else:
            bank.write_mask(index, mask(index), 0.75 + index / 10, signed)
    bank.write_task(task_record(bank, "one", "rotated-digits/1"), stored_parts(alpha=ALPHA, signature=signed))
    bank.write_task(task_record(bank, "two", "rotated-digits/2"), stored_parts(alpha=-ALPHA, signature=signed))
    return bank


def some_projection(dimensions: int = 4, seed: int = 0) -> StoredProjection:
    """Of the five features that the last layer sees."""
    generator = np.random.default_rng(seed)
    return StoredProjection(
        mean=generator.normal(size=5).astype(np.float16),
        directions=(np.rint(generator.uniform(-100, 100, (5, dimensions))) / 64).astype(np.float32),
        within=np.eye(dimensions, dtype=np.float32),
        between=(np.eye(dimensions) / 2).astype(np.float32),
        tasks=("rotated-digits/0",),
    )


def moved_projection() -> StoredProjection:
    """One of a network that was moved first: two bits for each weight of its first layer."""
    codes = np.arange(LAYERS[0].size, dtype=np.uint8) % 4
    steps = np.array([0.5, 0.25, 0.0, 1.0, 2.0], dtype=np.float16)
    weight_delta = StoredAdaptation(layers=1, bits=2, codes=codes, steps=steps)
    return replace(
        some_projection(),
        tasks=("rotated-digits/0", "rotated-digits/9"),
        holdout=0.25,
        adaptation=weight_delta,
        epochs=3,
    )


def over_weights(
    path: Path,
    pretrained: PretrainedRecord = THEIRS,
    projection: StoredProjection | None = None,
    plans: tuple[MaskPlan, ...] = (),
) -> Bank:
    """A bank over pretrained weights, without masks unless some are planned."""
    planned = manifest(plans=plans)
    backbone = msgspec.structs.replace(planned.backbone, pretrained=pretrained)
    bank = write_plan(path, msgspec.structs.replace(planned, backbone=backbone))
    bank.files.write(PROJECTION, projection or some_projection())
    return bank
