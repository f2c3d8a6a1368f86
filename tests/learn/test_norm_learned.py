"""Scale and shift of norm layers as a part of a task: learned with it, counted, and answered by as stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_bank
import torch

from impress_format import open_bank, verify_bank
from impress_format.bank import Bank
from impress_format.errors import UsageError
from impress_format.parts.norm import NORM, NormBits, NormSettings, norm_bytes
from impress_learn import Parts, load_bank
from impress_learn.jobs import add_tasks, create_bank, evaluate, update_task
from impress_learn.network.build import build_backbone
from impress_learn.parts.norm import norm_rows, trainable_norm
from impress_learn.plan.asked import Masks, Network
from impress_learn.training.config import MaskTraining, TaskTraining

FIT = TaskTraining(epochs=6)
TASK = "rotated-digits/45"


@pytest.fixture(scope="module")
def norms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of two masks over a network with BatchNorm."""
    path = tmp_path_factory.mktemp("norms") / "a.impress"
    references = ("rotated-digits/0", "rotated-digits/90")
    create_bank(
        path,
        references,
        network=Network(backbone="timm:test_resnet"),
        masks=Masks(density=0.3),
        fit=MaskTraining(epochs=3),
    )
    return path


def test_norm_layers_are_those_with_scale_and_shift_in_their_order() -> None:
    backbone = build_backbone("timm:test_resnet", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    names = [name for name, _ in norm_rows(backbone.module)]
    assert names[::2] == [
        f"{path}.weight"
        for path, layer in backbone.module.named_modules()
        if isinstance(layer, torch.nn.BatchNorm2d)  # all that this network has
    ]
    assert names[1::2] == [name.removesuffix("weight") + "bias" for name in names[::2]]


@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_stored_is_what_was_rounded_in_training(bits: NormBits) -> None:
    backbone = build_backbone("timm:test_resnet", init="signed-constant", seed=0, input_shape=(1, 28, 28), classes=10)
    sizes = tuple(size for _, size in norm_rows(backbone.module)[-4:])
    start = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0))
    part = trainable_norm(backbone, bits, 2, start, rate=0.1)
    settings = NormSettings(bits=bits, layers=2)
    stored = torch.from_numpy(NORM.restore(part.store(), settings, None, None).rows(sizes))  # type: ignore[arg-type]
    parameters = dict(backbone.module.named_parameters())
    weight_delta = part.add({})
    assert list(weight_delta) == [name for name, _ in norm_rows(backbone.module)[-4:]]
    for (name, tensor), values in zip(weight_delta.items(), stored.split(sizes), strict=True):
        torch.testing.assert_close(tensor.detach(), parameters[name] + values, rtol=2e-3, atol=1e-3)
    assert (part.learned() - stored).abs().mean() < (0.15 if bits == 4 else 0.02)
    sum(tensor.sum() for tensor in weight_delta.values()).backward()  # type: ignore[union-attr]
    (values,) = part.parameters
    assert values.grad is not None
    assert bool((values.grad == 0.1).all())  # straight through


@pytest.mark.parametrize("bits", [4, 8])
def test_a_task_is_learned_and_answered_with_it_and_its_bytes_are_counted(norms: Path, bits: NormBits) -> None:
    (bare,) = add_tasks(norms, [TASK], fit=FIT, name=f"bare-{bits}", parts=Parts(signature=False))
    (added,) = add_tasks(norms, [TASK], fit=FIT, name=f"moved-{bits}", parts=Parts(norm=bits, signature=False))
    assert added.accuracy > bare.accuracy + 0.05
    bank = open_bank(norms)
    settings = bank.read_task_record(added.name).settings.norm
    rows = norm_rows(load_bank(bank).backbone.module)
    assert (settings.bits, settings.layers) == (bits, len(rows) // 2)
    assert added.facts["norm"] == sum(size for _, size in rows)
    stored = norm_bytes(added.facts["norm"], settings)
    assert stored <= added.bytes - bare.bytes <= stored + 96  # and what the record and the header say of it
    (measured,) = evaluate(norms, [added.name])
    assert measured.accuracy == pytest.approx(added.accuracy, abs=1e-4)
    assert verify_bank(norms).ok
    (again,) = add_tasks(norms, [TASK], fit=FIT, name=added.name, parts=Parts(norm=bits, signature=False))
    assert again.seconds == 0  # it is there


def test_it_goes_on_from_where_it_was_and_an_ordinary_network_has_it(norms: Path) -> None:
    add_tasks(norms, [TASK], fit=FIT, name="drifts", parts=Parts(norm=8))
    before = small_bank.part(NORM, open_bank(norms).read_stored("drifts"))
    update_task(norms, "drifts", "rotated-digits/50", fit=TaskTraining(epochs=1, lr=1e-6))
    after = small_bank.part(NORM, open_bank(norms).read_stored("drifts"))
    sizes = tuple(size for _, size in norm_rows(load_bank(norms).backbone.module))
    assert abs(after.rows(sizes) - before.rows(sizes)).max() < 0.05
    loaded = load_bank(norms)
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = loaded.logits(loaded.task_weights("drifts"), images)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module("drifts")(images), expected, rtol=1e-3, atol=1e-3)


def test_beside_a_head_it_is_of_the_last_norm_layers_and_learned_with_it(bank_for_heads: Bank) -> None:
    path = bank_for_heads.path
    (bare,) = add_tasks(path, [TASK], fit=FIT, name="bare")
    (added,) = add_tasks(path, [TASK], fit=FIT, name="moved", parts=Parts(norm=4))
    assert 0 < added.facts["norm"] < sum(size for _, size in norm_rows(load_bank(path).backbone.module))
    assert added.accuracy > bare.accuracy
    (measured,) = evaluate(path, ["moved"])
    assert measured.accuracy == pytest.approx(added.accuracy, abs=5e-3)
    (both,) = add_tasks(path, [TASK], fit=FIT, name="both", parts=Parts(norm=8, norm_layers=1, residual=800))
    assert (both.facts["residual"], both.facts["norm"] > 0) == (800, True)
    assert verify_bank(path).ok


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"norm": 3}, "expected 4 or 8 bits"),
        ({"norm_layers": 2}, "give its bits too"),
        ({"norm": 4, "norm_layers": 0}, "expected 1 to"),
        ({"norm": 4, "norm_layers": 999}, "expected 1 to"),
        ({"norm": 4, "alpha": False}, "give `residual`"),
    ],
)
def test_what_no_task_can_have_is_refused(norms: Path, parts: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        add_tasks(norms, [TASK], name="bad", parts=Parts(**parts))  # type: ignore[arg-type]


def test_a_network_without_norm_layers_has_none_to_move(tmp_path: Path) -> None:
    create_bank(tmp_path / "a.impress", ("rotated-digits/0",), fit=MaskTraining(epochs=1))
    with pytest.raises(UsageError, match="lenet-300-100 has no norm layer"):
        add_tasks(tmp_path / "a.impress", [TASK], parts=Parts(norm=4))
