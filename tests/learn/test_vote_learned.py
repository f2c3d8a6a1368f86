"""Masks that vote: how their answers are counted, who is chosen, and everything that can be asked of such a task."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from PIL import Image
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from impress_format import open_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.parts.vote import VOTE
from impress_learn import (
    LoadedBank,
    Masks,
    MaskTraining,
    Parts,
    TaskTraining,
    add_tasks,
    create_bank,
    evaluate,
    export_weights,
    load_bank,
    update_task,
)
from impress_learn.identify.candidates import Candidates
from impress_learn.identify.entropy import one_by_one
from impress_learn.identify.found import find_candidates
from impress_learn.jobs import evaluate_gn
from impress_learn.network.backbone import Vote, count_votes
from impress_learn.parts.table import parts_of
from impress_learn.progress import Progress
from impress_learn.running.mixed import mixed
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
TASK, NAME = "rotated-digits/45", "rotated-digits-45"
FEW = TaskTraining(shots=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks thirty degrees apart; in one task they vote, without being asked to."""
    path = tmp_path_factory.mktemp("vote") / "a.impress"
    create_bank(path, ["rotated-digits/0:360:30"], masks=Masks(density=0.2), fit=MaskTraining(epochs=12))
    add_tasks(path, [TASK], fit=FEW)
    return path


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a.impress"))


@pytest.fixture(scope="module")
def loaded(made: Path) -> LoadedBank:
    return load_bank(made)


@pytest.fixture(scope="module")
def images(loaded: LoadedBank) -> Tensor:
    """Seven test images of the task, normalised."""
    return loaded.task_data(parse_reference(TASK), data_dir=None).test.batch(slice(0, 7))[0]


def test_votes_are_counted_as_the_format_says() -> None:
    """3 log sum_k s_k softmax(z_k / 3), by SciPy."""
    logits = np.random.default_rng(0).normal(scale=5, size=(3, 4, 10))
    shares = [0.5, 0.3, 0.2]
    expected = 3 * logsumexp(log_softmax(logits / 3, axis=2), axis=0, b=np.array(shares)[:, None, None])
    found = count_votes([torch.from_numpy(one) for one in logits], shares)
    assert found.numpy() == pytest.approx(expected, rel=1e-12)
    alone = count_votes([torch.from_numpy(logits[0])], [1.0])
    assert alone.softmax(1).numpy() == pytest.approx(np.exp(log_softmax(logits[0], axis=1)), rel=1e-9)


def test_from_few_images_masks_vote_and_beat_the_best_of_them(made: Path) -> None:
    stored = open_bank(made).read_stored(NAME)
    shares = VOTE.of(stored)
    assert shares is not None
    assert set(np.argsort(shares)[-2:].tolist()) == {1, 2}, "the masks at 30 and 60 degrees count most"
    (result,) = evaluate(made, [NAME])
    (controls,) = evaluate(made, [NAME], wrong_mask=True)
    assert result.accuracy == pytest.approx(stored.record.accuracy, abs=5e-5)
    assert controls.best_mask is not None
    assert result.accuracy > controls.best_mask.accuracy + 0.02, "that mask was chosen by all labels"


def test_the_answer_is_that_of_the_masks_by_their_shares(loaded: LoadedBank, images: Tensor) -> None:
    shares = VOTE.of(loaded.bank.read_stored(NAME))
    assert shares is not None
    each = np.stack([loaded.logits(loaded.mask_weights(index), images).numpy() for index in range(len(shares))])
    with np.errstate(divide="ignore"):
        expected = 3 * logsumexp(log_softmax(each / 3, axis=2), axis=0, b=shares[:, None, None])
    assert loaded.logits(loaded.task_weights(NAME), images).numpy() == pytest.approx(expected, rel=1e-4)


def test_masks_without_a_share_are_not_asked(loaded: LoadedBank) -> None:
    shares, weights = VOTE.of(loaded.bank.read_stored(NAME)), loaded.task_weights(NAME)
    assert shares is not None
    assert isinstance(weights, Vote)
    assert len(weights.members) == np.count_nonzero(shares) < len(shares)
    assert sum(weights.shares) == pytest.approx(1, abs=1e-6)


def test_images_say_their_class_and_their_task(bank: Path) -> None:
    add_tasks(bank, ["rotated-digits/180"], fit=TaskTraining(epochs=1))
    loaded = load_bank(bank)
    pixels = loaded.task_data(parse_reference(TASK), data_dir=None).test.pixels_of(slice(0, 5))
    loaded_logits = loaded.logits(
        loaded.task_weights(NAME), torch.stack([loaded.transform(one.numpy().transpose(1, 2, 0)) for one in pixels])
    )
    assert [one.index for one in loaded.predict(list(pixels), NAME)] == loaded_logits.argmax(1).tolist()
    results = evaluate_gn(bank, samples=64)
    (own,) = [one for one in results if one.task == TASK]
    assert own.task_accuracy == 1
    assert own.accuracy == own.known


def test_it_answers_in_a_batch_of_several_tasks(bank: Path, images: Tensor) -> None:
    add_tasks(bank, ["rotated-digits/105"], fit=TaskTraining(epochs=1))
    loaded = load_bank(bank)
    names = [NAME, "rotated-digits-105"] * 3 + [NAME]
    expected = [loaded.logits(loaded.task_weights(name), one[None]) for name, one in zip(names, images, strict=True)]
    assert mixed(loaded, images, names).numpy() == pytest.approx(torch.cat(expected).numpy(), rel=1e-4, abs=1e-4)


def test_it_cannot_be_mixed_as_coefficients_can(bank: Path) -> None:
    with pytest.raises(BankMismatch, match="cannot be mixed"):
        _ = Candidates(load_bank(bank), find_candidates(open_bank(bank))).mixable
    assert evaluate_gn(bank, samples=64, method="exhaustive", groups=2)


def test_it_becomes_a_module_and_a_graph_but_no_weights(made: Path, images: Tensor, tmp_path: Path) -> None:
    loaded = load_bank(made)
    expected = loaded.logits(loaded.task_weights(NAME), images)
    net = loaded.module(NAME)
    with torch.no_grad():
        assert net(images).numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    assert tuple(net.classes)[3] == "3"  # type: ignore[arg-type]
    written = export_weights(made, NAME, tmp_path / "a.onnx", file_format="onnx")
    assert written.apart < 1e-4
    (logits,) = ReferenceEvaluator(onnx.load(tmp_path / "a.onnx")).run(["logits"], {"images": images.numpy()})
    assert logits == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-3)
    with pytest.raises(UsageError, match="masks vote, whose answers"):
        export_weights(made, NAME, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_the_same_command_finds_it_done(bank: Path) -> None:
    before = (bank / "tasks" / f"{NAME}.safetensors").read_bytes()
    (again,) = add_tasks(bank, [TASK], fit=FEW)
    assert again.seconds == 0
    assert (bank / "tasks" / f"{NAME}.safetensors").read_bytes() == before


def test_masks_that_promise_little_do_not_vote(bank: Path) -> None:
    (added,) = add_tasks(bank, ["permuted-digits/3"], fit=FEW)
    assert (added.facts["shares"], added.facts["coefficients"]) == (0, 36)


def test_with_enough_images_a_trial_decides_and_many_images_learn_coefficients(bank: Path) -> None:
    (some,) = add_tasks(bank, ["rotated-digits/105"], fit=TaskTraining(shots=20))
    assert some.facts["shares"] == 12
    (far,) = add_tasks(bank, ["permuted-digits/4"], fit=TaskTraining(shots=20))
    assert far.facts["coefficients"] == 36
    (every,) = add_tasks(bank, ["rotated-digits/106"], fit=TaskTraining(epochs=1))
    assert every.facts["coefficients"] == 36


@pytest.mark.parametrize(
    "parts", [Parts(vote=False), Parts(alpha=True), Parts(granularity=2), Parts(alpha_dtype="float16")]
)
def test_who_asks_for_coefficients_gets_them(bank: Path, parts: Parts) -> None:
    (added,) = add_tasks(bank, ["rotated-digits/21"], fit=TaskTraining(shots=2, epochs=1), parts=parts)
    assert added.facts["shares"] == 0
    assert added.facts["coefficients"] > 0


def test_masks_vote_from_all_images_where_they_are_told_to(bank: Path) -> None:
    (added,) = add_tasks(bank, ["rotated-digits/105"], parts=Parts(vote=True))
    assert added.facts["shares"] == 12
    assert parts_of(open_bank(bank).read_stored("rotated-digits-105")) == Parts(vote=True, alpha=False, head=0)


@pytest.mark.parametrize(
    "others",
    [{"alpha": True}, {"residual": 800}, {"granularity": 2}, {"hybrid": True}, {"head": 8}, {"bytes": 400}],
)
def test_a_vote_stands_alone(bank: Path, others: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        add_tasks(bank, ["rotated-digits/105"], parts=Parts(vote=True, **others))  # type: ignore[arg-type]
    assert open_bank(bank).task_names() == [NAME]


def test_a_bank_without_masks_or_of_version_1_has_no_vote(tmp_path: Path) -> None:
    old = Path(shutil.copytree(GOLDEN_V1, tmp_path / "v1.impress"))
    with pytest.raises(BankMismatch, match="which has no vote"):
        add_tasks(old, ["rotated-digits/77"], parts=Parts(vote=True))
    (added,) = add_tasks(old, ["rotated-digits/78"], fit=TaskTraining(shots=2, epochs=1))
    assert added.facts["coefficients"] > 0


def test_a_few_bytes_hold_a_vote_where_it_does_more(bank: Path) -> None:
    said: list[str] = []
    size = 300
    (added,) = add_tasks(
        bank,
        ["rotated-digits/105"],
        fit=TaskTraining(shots=5),
        parts=Parts(bytes=size),
        progress=Progress(remark=said.append),
    )
    assert said[0].startswith("300 bytes hold votes of 12 masks and a signature, or coefficients of 12 masks")
    assert added.facts["shares"] == 12
    assert added.bytes <= size


def test_it_is_chosen_again_when_it_is_updated(bank: Path) -> None:
    before = VOTE.of(open_bank(bank).read_stored(NAME))
    updated = update_task(bank, NAME, "rotated-digits/105", fit=TaskTraining(shots=5))
    after = VOTE.of(open_bank(bank).read_stored(NAME))
    assert updated.facts["shares"] == 12
    assert before is not None
    assert after is not None
    assert set(np.argsort(after)[-2:].tolist()) == {3, 4} != set(np.argsort(before)[-2:].tolist())


def test_coefficients_begin_from_the_shares_of_a_vote(bank: Path) -> None:
    slow = TaskTraining(epochs=1, lr=1e-9)
    (added,) = add_tasks(bank, [TASK], warm_start=NAME, name="warm", fit=slow, parts=Parts(alpha_dtype="float32"))
    shares = VOTE.of(open_bank(bank).read_stored(NAME))
    assert shares is not None
    assert added.facts["coefficients"] == 36
    alpha = open_bank(bank).read_task("warm")[1]
    assert alpha == pytest.approx(np.repeat(shares[:, None], 3, axis=1), abs=1e-5)


def test_neither_a_vote_nor_a_residual_begins_from_a_vote(bank: Path) -> None:
    for parts in (Parts(vote=True), Parts(alpha=False, residual=800)):
        with pytest.raises(UsageError, match="no part that this task could begin from"):
            add_tasks(bank, ["rotated-digits/105"], warm_start=NAME, parts=parts)


@pytest.fixture(scope="module")
def three(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bank, and a folder of thirty digits of three classes, turned by 45 degrees."""
    folder = tmp_path_factory.mktemp("three")
    data = load_task(parse_reference(TASK), data_dir=None).train
    for label in range(3):
        (folder / str(label)).mkdir()
        rows = (data.labels == label).nonzero()[:12, 0]
        for number, pixels in enumerate(data.pixels_of(rows)):
            Image.fromarray(pixels[0].numpy()).save(folder / str(label) / f"{number}.png")
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("of_three") / "a.impress")), folder


def test_a_task_of_fewer_classes_answers_by_these_alone_everywhere(three: tuple[Path, Path], images: Tensor) -> None:
    bank, folder = three
    add_tasks(bank, [f"folder:{folder}"], parts=Parts(vote=True), name="three")
    loaded = load_bank(bank)
    expected = loaded.logits(loaded.task_weights("three"), images, 3)
    torch.testing.assert_close(mixed(loaded, images, ["three"] * len(images))[:, :3], expected)
    (scores,) = one_by_one(loaded, [loaded.task_weights("three")], [3], images[None])
    likely = expected.log_softmax(1)
    assert float(scores[0]) == pytest.approx(float((likely.exp() * likely).sum(1).mean()), rel=1e-4)


def test_masks_answer_by_names_of_classes_and_never_by_position(three: tuple[Path, Path], tmp_path: Path) -> None:
    bank, folder = three
    other = tmp_path / "other"
    for old, new in (("1", "0"), ("0", "one"), ("2", "two")):
        shutil.copytree(folder / old, other / new)
    with pytest.raises(BankMismatch, match="has no mask of the classes of"):
        add_tasks(bank, [f"folder:{other}"], parts=Parts(vote=True), name="other")
    (added,) = add_tasks(bank, [f"folder:{other}"], fit=TaskTraining(epochs=2), name="other")
    assert added.facts["coefficients"] == 36
