"""Which task images are of: gradients of a superposition, every task tried out, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from impress_format import Bank, open_bank
from impress_format.errors import BankMismatch, TaskNotFound, UsageError
from impress_format.parts.table import stored_parts
from impress_format.records.training import TaskTrainingRecord
from impress_format.tasks.record import TaskRecord
from impress_learn import load_bank
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.entropy import METHODS, entropy_slopes, exhaustive, task_logits
from impress_learn.identify.found import find_candidates
from impress_learn.jobs import create_bank
from impress_learn.jobs.identify import evaluate_basis_gn, evaluate_gn
from impress_learn.masks.basis import common_granularity, effective_weights, refine
from impress_learn.network.backbone import members_of
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.plan.asked import Masks, Network
from impress_learn.running.loaded import load_running
from impress_learn.training.config import MaskTraining, TaskTraining

MASKS = ("rotated-digits/0", "rotated-digits/90", "rotated-digits/180")


def store(bank: Bank, name: str, task: str, alpha: np.ndarray, granularity: int = 1) -> None:
    bank.write_task(
        TaskRecord(
            name=name,
            task=task,
            basis=bank.basis_digest(len(alpha)),
            accuracy=0.5,
            train_accuracy=0.5,
            fit=TaskTrainingRecord(epochs=1, lr=0.1),
            settings=small_bank.settings(granularity=granularity),
        ),
        stored_parts(alpha=alpha.astype(np.float32)),
    )


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """Three masks trained well, and two tasks: one is the first mask over again, under another reference."""
    path = tmp_path_factory.mktemp("identify") / "a.impress"
    bank = create_bank(path, MASKS, fit=MaskTraining(epochs=12))
    store(bank, "twin", "rotated-digits/1", np.eye(3, dtype=np.float32)[:, :1].repeat(3, 1))
    random = np.random.default_rng(0).standard_normal((2, 12)) * 0.5  # G = 4: 4 columns a layer
    store(bank, "fine", "rotated-digits/2", random, granularity=4)
    return open_bank(path)


@pytest.fixture(scope="module")
def candidates(bank: Bank) -> Candidates:
    return Candidates(load_bank(bank, torch.device("cpu")), find_candidates(bank))


def digits(count: int) -> Tensor:
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def entropy(logits: Tensor) -> np.ndarray:
    """An independent entropy, in NumPy and float64."""
    values = logits.double().detach().numpy()
    shares = np.exp(values - values.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    found: np.ndarray = -(shares * np.log(np.maximum(shares, 1e-300))).sum(-1)
    return found


def test_candidates_are_stored_tasks_and_those_of_masks(candidates: Candidates) -> None:
    assert [(one.task, one.name, one.mask) for one in candidates.tasks] == [
        ("rotated-digits/2", "fine", None),
        ("rotated-digits/1", "twin", None),
        ("rotated-digits/0", "mask 0", 0),
        ("rotated-digits/90", "mask 1", 1),
        ("rotated-digits/180", "mask 2", 2),
    ]


def test_mixable_coefficients_are_the_tasks_own_weights(candidates: Candidates) -> None:
    mixable = candidates.mixable
    assert mixable.granularity == 4
    for index, alpha in enumerate(mixable.alpha):
        built = effective_weights(candidates.loaded.basis, alpha, mixable.granularity)
        for name, weights in members_of(candidates.weights(index))[0].items():
            torch.testing.assert_close(built[name], weights)


@settings(max_examples=50)
@given(
    granularities=st.sets(st.integers(1, 12), min_size=1, max_size=3),
    channels=st.lists(st.integers(1, 20), min_size=1, max_size=3),
)
def test_a_finer_granularity_gives_the_same_network(granularities: set[int], channels: list[int]) -> None:
    common = common_granularity(granularities, channels)
    assert common >= max(granularities) or common == max(channels)
    for granularity in granularities:
        columns = [min(granularity, out) for out in channels]
        alpha = torch.arange(2 * sum(columns), dtype=torch.float32).reshape(2, -1)
        fine = refine(alpha, channels, granularity, common)
        start = fine_start = 0
        for out, coarse in zip(channels, columns, strict=True):
            for channel in range(out):
                groups = min(common, out)
                expected = alpha[:, start + channel * coarse // out]
                assert torch.equal(fine[:, fine_start + channel * groups // out], expected)
            start += coarse
            fine_start += min(common, out)


def test_slopes_are_those_of_the_entropy_of_mixed_weights(candidates: Candidates) -> None:
    """Against central differences of an entropy computed from weights that are mixed task by task."""
    images, loaded = digits(6), candidates.loaded
    mixture = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15])
    slopes = entropy_slopes(loaded, candidates.mixable, images, mixture)
    weights = [members_of(candidates.weights(index))[0] for index in range(len(candidates))]

    def mixed(shares: Tensor) -> float:
        total = {
            name: sum(share * one[name] for share, one in zip(shares, weights, strict=True)) for name in weights[0]
        }
        return float(entropy(loaded.logits(total, images)).mean())

    step = 1e-2
    for task in range(len(candidates)):
        unit = torch.zeros(5)
        unit[task] = step
        numeric = (mixed(mixture + unit) - mixed(mixture - unit)) / (2 * step)
        assert float(slopes[task]) == pytest.approx(numeric, rel=0.02, abs=1e-3)


def test_exhaustive_is_the_entropy_under_each_tasks_own_weights(candidates: Candidates) -> None:
    groups = digits(12).reshape(3, 4, 1, 28, 28)
    scores = exhaustive(candidates.loaded, candidates.mixable, groups)
    for group in range(3):
        for task in range(len(candidates)):
            own = candidates.loaded.logits(candidates.weights(task), groups[group])
            assert float(scores[group, task]) == pytest.approx(-entropy(own).mean(), rel=1e-4)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_scores_every_task(candidates: Candidates, method: str) -> None:
    scores = METHODS[method](candidates.loaded, candidates.mixable, digits(8).reshape(2, 4, 1, 28, 28))  # type: ignore[index]
    assert scores.shape == (2, len(candidates))
    assert bool(torch.isfinite(scores).all())


def test_binary_keeps_the_better_half_each_time(candidates: Candidates) -> None:
    (scores,) = METHODS["binary"](candidates.loaded, candidates.mixable, digits(4)[None])
    assert sorted(scores.tolist()) == [0, 0, 1, 2, 3]  # of five stay three, two, one


def test_gradient_gives_a_mixture(candidates: Candidates) -> None:
    scores = METHODS["gradient"](candidates.loaded, candidates.mixable, digits(8).reshape(2, 4, 1, 28, 28))
    assert scores.sum(1).tolist() == pytest.approx([1, 1])
    assert float(scores.min()) >= 0


def test_masks_of_rotations_a_quarter_apart_are_told_apart(bank: Bank) -> None:
    found = evaluate_gn(bank.path, ["rotated-digits/90", "mask 2"], samples=64, groups=5)
    assert [one.task for one in found] == ["rotated-digits/90", "rotated-digits/180"]
    assert [one.task_accuracy for one in found] == [1, 1]
    for one in found:
        assert one.accuracy == one.known > 0.8
        assert (one.counts, one.samples, one.images) == ({one.task: 5}, 320, "test")


def test_of_a_wrong_task_the_accuracy_is_that_under_its_weights(bank: Bank) -> None:
    """The twin's weights are the first mask's, so that nothing tells it apart: the first of equals is taken."""
    (twin,) = evaluate_gn(bank.path, ["rotated-digits/1"], samples=100, groups=5)
    assert twin.accuracy == twin.known > 0.7
    assert set(twin.counts) <= {"rotated-digits/0", "rotated-digits/1"}


def test_what_cannot_be_asked_is_refused(bank: Bank, tmp_path: Path) -> None:
    for settings_, words in (
        ({"samples": 0}, "`samples` 0"),
        ({"groups": 0}, "`groups` 0"),
        ({"samples": 501}, "has only 500 images"),
        ({"holdout": 0.1}, "held out"),
    ):
        with pytest.raises(UsageError, match=words):
            evaluate_gn(bank.path, ["rotated-digits/90"], **settings_)
    with pytest.raises(TaskNotFound):
        evaluate_gn(bank.path, ["rotated-digits/5"])
    lonely = create_bank(tmp_path / "b.impress", MASKS[:1], fit=MaskTraining(epochs=1))
    with pytest.raises(BankMismatch, match="two or more"):
        evaluate_gn(lonely.path)


def test_norm_statistics_are_those_of_each_task(tmp_path: Path) -> None:
    """Of a network with BatchNorm: logits of many tasks at once are those of one after the other."""
    path = tmp_path / "norm.impress"
    bank = create_bank(
        path,
        MASKS[:2],
        network=Network(backbone="timm:test_resnet"),
        masks=Masks(density=0.3),
        fit=MaskTraining(epochs=1),
    )
    candidates = Candidates(load_bank(bank, torch.device("cpu")), find_candidates(bank))
    images = digits(5)
    logits = task_logits(candidates.loaded, candidates.mixable, images)
    for index in range(2):
        torch.testing.assert_close(logits[index], candidates.loaded.logits(candidates.weights(index), images))
    slopes = entropy_slopes(candidates.loaded, candidates.mixable, images, torch.tensor([0.5, 0.5]))
    # The same by autograd through weights that are mixed by hand, with the mixture's own statistics held fixed.
    shares = torch.tensor([0.5, 0.5], requires_grad=True)
    one, two = (candidates.loaded.basis.one(index) for index in range(2))
    mixed = {name: shares[0] * one[name] + shares[1] * two[name] for name in one}
    fixed = with_statistics(
        candidates.loaded.backbone, {name: w.detach() for name, w in mixed.items()}, candidates.loaded.calibration
    )
    log_shares = candidates.loaded.backbone({**fixed, **mixed}, images).log_softmax(-1)
    loss = -(log_shares.exp() * log_shares).sum(-1).mean()
    (expected,) = torch.autograd.grad(loss, shares)
    torch.testing.assert_close(slopes, expected, rtol=1e-3, atol=1e-4)


def test_of_two_tasks_of_one_reference_the_first_stands_for_both(bank: Bank) -> None:
    record, alpha = bank.read_task("twin")
    bank.write_task(msgspec.structs.replace(record, name="zwin"), stored_parts(alpha=alpha))
    try:
        assert [one.name for one in find_candidates(bank).tasks][:3] == ["fine", "twin", "mask 0"]
        asked_both = evaluate_gn(bank.path, ["zwin", "twin"], samples=100, groups=1)
        assert [one.name for one in asked_both] == ["twin"]
    finally:
        bank.remove_task("zwin")


def test_basis_gn_starts_from_uniform_and_finds_the_tasks_own_mask(bank: Bank) -> None:
    found = evaluate_basis_gn(bank.path, fit=TaskTraining(epochs=10))
    assert [one.task for one in found] == list(MASKS)
    for index, one in enumerate(found):
        stored = bank.read_mask_record(index).accuracy
        assert one.dedicated == stored
        assert one.plain.right
        assert one.with_l1.right
        assert one.plain.accuracy > one.dedicated - 0.1
        assert one.plain.accuracy != one.with_l1.accuracy or one.plain.accuracy > 0.8
        assert (one.samples, one.images) == (500, "test")
        (known,) = evaluate_gn(bank.path, [one.task], samples=128)
        assert one.inferred == known


def test_basis_gn_refuses_what_it_cannot_do(bank: Bank) -> None:
    for fit, words in ((TaskTraining(epochs=0), "`epochs` 0"), (TaskTraining(holdout=0.1), "held out")):
        with pytest.raises(UsageError, match=words):
            evaluate_basis_gn(bank.path, fit=fit)
    with pytest.raises(UsageError, match="`l1` -1"):
        evaluate_basis_gn(bank.path, l1=-1.0)
    with pytest.raises(UsageError, match="`samples` 501: rotated-digits/0 has only 500"):
        evaluate_basis_gn(bank.path, samples=501)


def test_packed_tasks_are_candidates_as_loose_ones_are(bank: Bank, tmp_path: Path) -> None:
    import shutil

    from impress_format.operations.pack import pack_tasks

    copy = open_bank(shutil.copytree(bank.path, tmp_path / "packed.impress"))
    store(copy, "loose", "rotated-digits/7", np.ones((3, 3)))
    loose = Candidates(load_bank(copy, torch.device("cpu")), find_candidates(copy))
    pack_tasks(copy)
    copy.remove_task("loose")
    store(copy, "loose", "rotated-digits/7", np.ones((3, 3)))
    packed = Candidates(load_bank(copy, torch.device("cpu")), find_candidates(copy))
    assert packed.tasks == loose.tasks
    assert torch.equal(packed.mixable.alpha, loose.mixable.alpha)
    assert packed.mixable.granularity == loose.mixable.granularity


@pytest.mark.parametrize("method", METHODS)
def test_many_masks_which_are_looked_up_are_asked_by_every_method(method: str, tmp_path: Path) -> None:
    """From 17 on a CPU keeps masks otherwise (masks/coded_masks.py)."""
    fit, data = MaskTraining(epochs=1), Path("nowhere")
    path = tmp_path / "a.impress"
    create_bank(path, ["rotated-digits/0", "rotated-digits/90"], masks=Masks(random_masks=16), fit=fit, data_dir=data)
    loaded = load_running(open_bank(path), torch.device("cpu"))
    candidates = Candidates(loaded, find_candidates(loaded.bank))
    assert len(loaded.basis) == 18
    images = torch.rand(4, 1, 28, 28)
    own = torch.stack([loaded.logits(candidates.weights(place), images) for place in range(2)])
    assert torch.allclose(task_logits(loaded, candidates.mixable, images), own, atol=1e-5)
    asked = evaluate_gn(path, method=method, samples=32, groups=2, data_dir=data)  # type: ignore[arg-type]
    assert [one.task for one in asked] == ["rotated-digits/0", "rotated-digits/90"]


def test_basis_gn_of_some_masks_leaves_the_others_out(bank: Bank) -> None:
    some = evaluate_basis_gn(bank.path, tasks=["rotated-digits/90"], fit=TaskTraining(epochs=1), samples=8)
    assert [one.task for one in some] == ["rotated-digits/90"]
    with pytest.raises(UsageError, match="no mask was trained for rotated-digits/7"):
        evaluate_basis_gn(bank.path, tasks=["rotated-digits/7"])
