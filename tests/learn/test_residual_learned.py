"""A hashed residual is learned, stored and run as docs/method.md says, beside masks and without any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_bank
import torch

from impress_format import open_bank, verify_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.parts.alpha import coefficients_of
from impress_format.parts.residual import RESIDUAL, hash_places, restore_residual, split_values
from impress_learn import load_bank
from impress_learn.jobs import add_tasks, create_bank, evaluate, update_task
from impress_learn.jobs.identify import evaluate_gn
from impress_learn.network.backbone import members_of
from impress_learn.network.build import build_backbone
from impress_learn.parts.residual import HashedResidual, make_residual
from impress_learn.parts.table import Bits, Parts
from impress_learn.plan.asked import Masks
from impress_learn.training.config import MaskTraining, TaskTraining

BITS: tuple[Bits, ...] = (1, 2, 4, 8)
CPU = torch.device("cpu")
GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
LENET = build_backbone("lenet-300-100", init="signed-constant", seed=3, input_shape=(1, 28, 28), classes=10)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("residual") / "a.impress"
    create_bank(path, ["rotated-digits/0:180:90"], fit=MaskTraining(epochs=4))
    return path


def residual(bits: Bits, count: int = 800) -> HashedResidual:
    return make_residual(LENET.spec, count, bits, CPU)


def test_every_weight_has_the_value_that_its_hash_says() -> None:
    values = torch.randn(800, generator=torch.Generator().manual_seed(0))
    zeros = {name: torch.zeros_like(weight) for name, weight in LENET.weights.items()}
    found = residual(1).add_to(zeros, LENET.weights, values)
    first = 0
    for layer, size in zip(LENET.spec.masked_layers, split_values(LENET.spec.masked_layers, 800), strict=True):
        places = hash_places(3, layer, size)
        expected = values.numpy()[first + places].reshape(layer.shape) * LENET.weights[layer.name].numpy()
        assert np.array_equal(found[layer.name].numpy(), expected)
        first += size


def test_the_gradient_of_a_value_is_summed_over_its_weights() -> None:
    values = torch.randn(800, generator=torch.Generator().manual_seed(0)).requires_grad_()
    plain = values.detach().clone().requires_grad_()
    one = residual(1)
    combined = {name: torch.ones_like(weight) for name, weight in LENET.weights.items()}
    factors = {name: torch.randn_like(weight) for name, weight in LENET.weights.items()}
    ours = one.add_to(combined, LENET.weights, values)
    sum((ours[name] * factors[name]).sum() for name in ours).backward()  # type: ignore[union-attr]
    sum((plain[one.places[name]] * LENET.weights[name] * factors[name]).sum() for name in ours).backward()  # type: ignore[union-attr]
    assert values.grad is not None
    assert torch.allclose(values.grad, plain.grad, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", BITS)
def test_values_are_rounded_as_they_are_stored_and_gradients_go_through(bits: Bits) -> None:
    one = residual(bits)
    values = (torch.randn(800, generator=torch.Generator().manual_seed(1)) * 0.3).requires_grad_()
    rounded = one.rounded(values)
    restored = restore_residual(one.store(values), bits, LENET.spec.masked_layers)
    np.testing.assert_allclose(rounded.detach().numpy(), restored, rtol=2e-3, atol=1e-6)
    for part in torch.from_numpy(restored).split(one.sizes):
        assert len(part.unique()) <= 2**bits
    (gradient,) = torch.autograd.grad(rounded.sum(), values)
    assert torch.equal(gradient, torch.ones(800))


@pytest.mark.parametrize("bits", BITS)
def test_more_bits_are_nearer(bits: Bits) -> None:
    values = torch.randn(8000, generator=torch.Generator().manual_seed(2))
    one = residual(bits, 8000)
    error = float((one.rounded(values) - values).square().mean())
    assert error == pytest.approx({1: 0.363, 2: 0.119, 4: 0.0115, 8: 1e-4}[bits], rel=0.25)  # Max 1960, Table 2


@pytest.mark.parametrize(("alpha", "bits"), [(True, 1), (False, 1), (True, 4), (False, 2)])
def test_a_task_is_learned_and_stored_with_a_residual(bank: Path, alpha: bool, bits: Bits) -> None:
    name = f"r-{alpha}-{bits}"
    (added,) = add_tasks(
        bank,
        ["rotated-digits/45"],
        name=name,
        fit=TaskTraining(epochs=8),
        parts=Parts(alpha=alpha, residual=4800, residual_bits=bits),
    )
    assert (added.facts["residual"], added.facts["coefficients"]) == (4800 // bits, 6 if alpha else 0)
    assert 600 < added.bytes < 1200
    stored = open_bank(bank).read_stored(name)
    assert RESIDUAL.of(stored) is not None
    assert (coefficients_of(stored) is None) == (not alpha)
    (measured,) = evaluate(bank, [name])
    assert measured.accuracy == pytest.approx(added.accuracy, abs=1e-4)  # what is stored is what was measured
    assert added.accuracy > 0.6
    assert verify_bank(bank).ok
    (again,) = add_tasks(
        bank,
        ["rotated-digits/45"],
        name=name,
        fit=TaskTraining(epochs=8),
        parts=Parts(alpha=alpha, residual=4800, residual_bits=bits),
    )
    assert again.seconds == 0  # it is there


def test_a_residual_adds_to_what_masks_can_do(bank: Path) -> None:
    def accuracy(name: str, residual: int) -> float:
        (added,) = add_tasks(
            bank, ["permuted-digits/5"], name=name, fit=TaskTraining(epochs=8), parts=Parts(residual=residual)
        )
        return added.train_accuracy

    assert accuracy("with", 8000) > accuracy("without", 0) + 0.1


def test_a_bank_without_masks_takes_residuals_alone(tmp_path: Path) -> None:
    path = tmp_path / "bare.impress"
    created = create_bank(path, ["rotated-digits/0:360:90"], masks=Masks(masks_per_task=0))
    assert created.manifest.masks == ()
    assert verify_bank(path).ok
    with pytest.raises(BankMismatch, match="has no mask"):
        add_tasks(path, ["rotated-digits/45"])
    fit = TaskTraining(epochs=8)
    added = add_tasks(
        path, ["rotated-digits/45", "rotated-digits/135"], fit=fit, parts=Parts(alpha=False, residual=8000)
    )
    assert min(one.accuracy for one in added) > 0.6
    found = evaluate_gn(path, samples=16)
    assert found[0].method == "signature"
    assert min(one.task_accuracy for one in found) > 0.9
    by_entropy = evaluate_gn(path, samples=16, groups=5, method="exhaustive")
    assert sum(one.task_accuracy for one in by_entropy) / 2 >= 0.5
    with pytest.raises(BankMismatch, match="cannot be mixed"):
        evaluate_gn(path, samples=16, groups=2, method="one-shot")


def test_drift_goes_on_from_the_residual_too(bank: Path) -> None:
    add_tasks(bank, ["rotated-digits/30"], name="drifts", fit=TaskTraining(epochs=8), parts=Parts(residual=4800))
    before = open_bank(bank).read_stored("drifts")
    (there,) = evaluate(bank, ["drifts"])
    updated = update_task(bank, "drifts", "rotated-digits/40", fit=TaskTraining(epochs=1, lr=1e-6))
    after = open_bank(bank).read_stored("drifts")
    assert RESIDUAL.of(before) is not None
    assert RESIDUAL.of(after) is not None
    old, new = (small_bank.part(RESIDUAL, stored) for stored in (before, after))
    assert (np.sign(new) == np.sign(old)).all()  # hardly moved at this rate
    np.testing.assert_allclose(new, old, rtol=1e-3)
    assert updated.facts["residual"] == 4800
    assert updated.accuracy > there.accuracy - 0.2


def test_exhaustive_runs_every_task_under_its_own_weights(bank: Path) -> None:
    add_tasks(bank, ["permuted-digits/9"], fit=TaskTraining(epochs=8), parts=Parts(residual=8000, alpha=False))
    found = evaluate_gn(bank, ["permuted-digits/9"], samples=64, groups=5, method="exhaustive")
    loaded = load_bank(open_bank(bank), CPU)
    assert set(members_of(loaded.task_weights("permuted-digits-9"))[0]) == set(LENET.weights)
    assert found[0].task_accuracy == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"residual": -8}, "`residual` -8"),
        ({"residual": 12}, "a multiple of 8"),
        ({"residual": 8, "residual_bits": 4}, "expected 3"),
        ({"residual": 8_000_000}, "one a weight"),
        ({"alpha": False}, "give `residual`"),
    ],
)
def test_residuals_that_no_task_can_have_are_refused(bank: Path, words: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        add_tasks(bank, ["rotated-digits/46"], parts=Parts(**words))  # type: ignore[arg-type]


def test_version_1_has_no_residual() -> None:
    with pytest.raises(BankMismatch, match="format version 1, which has no residual"):
        add_tasks(GOLDEN_V1, ["rotated-digits/46"], parts=Parts(residual=800))
