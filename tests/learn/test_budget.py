"""`--bytes N`: the parts that make the most of a file of N bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_bank

from impress_format import open_bank
from impress_format.errors import BankMismatch, UsageError
from impress_format.parts.alpha import ALPHA
from impress_format.parts.signature import SIGNATURE
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.jobs.packets import export_packet
from impress_learn.parts.table import Parts
from impress_learn.plan.asked import Masks
from impress_learn.progress import Progress
from impress_learn.training.config import MaskTraining, TaskTraining

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1" / "digits.impress"
QUICK = TaskTraining(epochs=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("budget") / "a.impress"
    create_bank(path, ["rotated-digits/0:180:45"], fit=MaskTraining(epochs=1))
    return path


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a.impress"))


@pytest.mark.parametrize("size", [480, 500, 601, 1000, 2101, 4200])
@pytest.mark.parametrize("reference", ["rotated-digits/20", "permuted-digits/12345"])
def test_the_file_is_as_large_as_was_asked_and_hardly_smaller(bank: Path, size: int, reference: str) -> None:
    (added,) = add_tasks(bank, [reference], parts=Parts(bytes=size), fit=QUICK)
    name = reference.replace("/", "-")
    on_disk = (bank / "tasks" / f"{name}.safetensors").stat().st_size
    assert added.bytes == on_disk
    assert size - 12 <= on_disk <= size  # accuracies may be shorter
    stored = open_bank(bank).read_stored(name)
    assert small_bank.part(ALPHA, stored).values.shape == (4, 3)
    assert stored.record.settings.residual.bits == 1
    assert SIGNATURE.of(stored) is not None
    (again,) = add_tasks(bank, [reference], parts=Parts(bytes=size), fit=QUICK)
    assert again.seconds == 0


def test_alpha_goes_alone_where_a_residual_would_be_too_small(bank: Path) -> None:
    (added,) = add_tasks(bank, ["rotated-digits/20"], parts=Parts(bytes=270, vote=False), fit=QUICK)
    assert (added.facts["residual"], added.facts["coefficients"]) == (0, 12)
    (bare,) = add_tasks(bank, ["rotated-digits/21"], fit=QUICK, parts=Parts(signature=False, bytes=200))
    assert bare.bytes <= 200
    assert small_bank.signature_of(open_bank(bank), "rotated-digits-21") is None


def test_where_masks_do_not_fit_the_residual_goes_alone(tmp_path: Path) -> None:
    path = tmp_path / "many.impress"
    create_bank(path, ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=200))
    (added,) = add_tasks(path, ["rotated-digits/20"], parts=Parts(bytes=600), fit=QUICK)
    assert added.facts["coefficients"] == 0
    assert added.facts["residual"] > 1000
    assert added.bytes <= 600


def test_a_bank_without_masks_gives_all_to_the_residual(tmp_path: Path) -> None:
    path = tmp_path / "bare.impress"
    create_bank(path, ["rotated-digits/0:180:45"], masks=Masks(masks_per_task=0))
    told: list[str] = []
    (added,) = add_tasks(
        path, ["rotated-digits/20"], parts=Parts(bytes=600), fit=QUICK, progress=Progress(remark=told.append)
    )
    assert added.facts["coefficients"] == 0
    assert 588 <= added.bytes <= 600
    assert f"a residual of {added.facts['residual']:,} bits" in told[0]


def test_what_is_chosen_is_told(bank: Path) -> None:
    told: list[str] = []
    (added,) = add_tasks(
        bank, ["rotated-digits/20"], parts=Parts(bytes=700), fit=QUICK, progress=Progress(remark=told.append)
    )
    assert told[0] == (
        f"700 bytes hold coefficients of 4 masks and a residual of {added.facts['residual']:,} bits and a signature"
    )


def test_more_bytes_than_weights_are_not_used(bank: Path) -> None:
    (added,) = add_tasks(bank, ["rotated-digits/20"], parts=Parts(bytes=50_000), fit=QUICK)
    assert added.facts["residual"] == 266_200 // 8 * 8


@pytest.mark.parametrize("size", [-5, 0, 10, 200])
def test_too_few_bytes_are_refused_and_the_least_is_named(bank: Path, size: int) -> None:
    with pytest.raises(UsageError, match=rf"`bytes` {size}: the smallest task of rotated-digits/20 .* takes \d+"):
        add_tasks(bank, ["rotated-digits/20"], parts=Parts(bytes=size), fit=QUICK)
    assert open_bank(bank).task_names() == []


@pytest.mark.parametrize("words", [{"granularity": 4}, {"alpha": False}, {"alpha_dtype": "float32"}, {"residual": 80}])
def test_parts_are_chosen_by_one_or_the_other(bank: Path, words: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="`bytes` chooses the parts"):
        add_tasks(bank, ["rotated-digits/20"], parts=Parts(**words, bytes=600))  # type: ignore[arg-type]


def test_version_1_has_no_residual_to_fill_up_with() -> None:
    with pytest.raises(BankMismatch, match="format version 1"):
        add_tasks(GOLDEN_V1, ["rotated-digits/20"], parts=Parts(bytes=600))


def test_from_few_images_there_is_no_residual(bank: Path) -> None:
    fit = TaskTraining(epochs=1, shots=5)
    (added,) = add_tasks(bank, ["rotated-digits/20"], parts=Parts(bytes=1000, vote=False), fit=fit)
    assert (added.facts["residual"], added.facts["coefficients"]) == (0, 12)


def test_from_some_images_a_trial_lets_the_residual_in_where_it_helps(bank: Path) -> None:
    told: list[str] = []
    fit = TaskTraining(shots=40, batch_size=32, epochs=12)  # of a permutation, which these masks know nothing of
    (added,) = add_tasks(
        bank, ["permuted-digits/5"], parts=Parts(bytes=1000), fit=fit, progress=Progress(remark=told.append)
    )
    assert added.facts["residual"] > 3000
    assert "coefficients of 4 masks and a residual of" in told[0]
    assert told[0].endswith("which, the images say")
    (again,) = add_tasks(bank, ["permuted-digits/5"], parts=Parts(bytes=1000), fit=fit)
    assert again.seconds == 0


def test_a_trial_that_shows_no_gain_leaves_alpha_alone(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impress_learn.tasks.learn.accuracy", lambda *_: 0.9)
    fit = TaskTraining(epochs=1, shots=40)
    (added,) = add_tasks(bank, ["permuted-digits/5"], parts=Parts(bytes=1000), fit=fit)
    assert (added.facts["residual"], added.facts["coefficients"]) == (0, 12)
    (again,) = add_tasks(bank, ["permuted-digits/5"], parts=Parts(bytes=1000), fit=fit)
    assert again.seconds == 0


def test_a_large_residual_is_learned_twice_as_long(bank: Path) -> None:
    small, large = (TaskTraining().record(60_000, residual=values).epochs for values in (464, 3984))
    assert (small, large) == (3, 6)
    add_tasks(bank, ["rotated-digits/20"], parts=Parts(bytes=1000), fit=TaskTraining(batch_size=8))
    assert small_bank.known(open_bank(bank).read_task_record("rotated-digits-20").fit).epochs == 6


@pytest.mark.parametrize(
    ("size", "parts"), [(20, ("residual",)), (51, ("alpha", "residual")), (222, ("alpha", "residual"))]
)
def test_a_packet_is_filled(bank: Path, tmp_path: Path, size: int, parts: tuple[str, ...]) -> None:
    (added,) = add_tasks(bank, ["permuted-digits/12345"], parts=Parts(packet=size, vote=False), fit=QUICK)
    sent = export_packet(bank, added.name, tmp_path / "packet", size)
    assert (sent.bytes, sent.signed) == (size, False)
    assert sent.parts == parts
