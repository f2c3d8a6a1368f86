"""Many tasks of one command are learned together: which, from where, and that nothing else makes a difference."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planned import planned_bank
from small_bank import known

from impress_format.bank import Bank, open_bank
from impress_format.errors import TrainingDiverged
from impress_format.records.masks import MaskPlan
from impress_learn import Parts, TaskTraining, add_tasks, create_bank
from impress_learn.masks.basis import make_basis
from impress_learn.masks.edge_popup import random_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.parts.table import settle
from impress_learn.plan.groups import LEAST, group_tasks
from impress_learn.plan.tasks import TaskRequest, request_tasks
from impress_learn.progress import Progress
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference, parse_references
from impress_learn.tasks.alphas import Learning, fit_alphas
from impress_learn.tasks.weights import fit_alpha
from impress_learn.training.config import MaskTraining

QUICK = TaskTraining(epochs=10)
MANY = f"rotated-digits/0:{LEAST}:1"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, lenet: Backbone) -> Bank:
    """A bank of three masks that nobody trains."""
    plans = [MaskPlan(kind="random", task=None, density=0.2, seed=seed, fit=None) for seed in range(3)]
    return planned_bank(tmp_path_factory.mktemp("planned") / "a.impress", lenet, tuple(plans))


def requests(
    bank: Bank,
    references: Sequence[str],
    fit: TaskTraining = QUICK,
    parts: Parts = Parts(),  # noqa: B008  frozen
) -> list[TaskRequest]:
    return request_tasks(parse_references(references), fit, name=None, parts=settle(bank, parts), data_dir=None)


def keys(tasks: Iterable[TaskRequest]) -> list[int]:
    return [int(one.reference.key) for one in tasks]


def test_a_circle_of_tasks_is_cut_into_groups_of_neighbours(planned: Bank) -> None:
    groups, alone = group_tasks(planned, requests(planned, ["rotated-mnist/0:360:1"]))
    assert not alone
    assert [sorted(keys(group.all)) for group in groups] == [[*range(start, start + 120)] for start in (0, 120, 240)]
    assert keys(groups[1].pilots) == [120, 135, 150, 165, 180, 195, 210, 225]  # evenly spread


def test_a_wave_takes_eight_of_those_that_are_no_pilots(planned: Bank) -> None:
    ((group,), _) = group_tasks(planned, requests(planned, ["rotated-digits/0:45:1"]))
    waves = [keys(wave) for wave in group.waves()]
    assert [len(wave) for wave in waves] == [8, 8, 8, 8, 5]
    others = sorted({*range(45)} - {*keys(group.pilots)})
    assert [key for wave in waves for key in wave] == others


def test_the_order_of_a_command_makes_no_difference(planned: Bank) -> None:
    asked = requests(planned, [MANY])
    shuffled = random.Random(0).sample(asked, len(asked))
    found, expected = ([keys(group.all) for group in group_tasks(planned, one)[0]] for one in (shuffled, asked))
    assert found == expected


def test_few_tasks_are_learned_alone_and_so_are_those_of_another_stream(planned: Bank) -> None:
    few = requests(planned, [f"rotated-digits/0:{LEAST - 1}:1"])
    assert group_tasks(planned, few) == ([], few)
    both = requests(planned, [MANY, "permuted-digits/5"])
    groups, alone = group_tasks(planned, both)
    assert [one.name for one in alone] == ["permuted-digits-5"]
    assert sum(len(group.all) for group in groups) == LEAST


@pytest.mark.parametrize("parts", [Parts(residual=512), Parts(hybrid=True), Parts(alpha=False, residual=512)])
def test_tasks_of_more_than_coefficients_are_learned_alone(planned: Bank, parts: Parts) -> None:
    asked = requests(planned, [MANY], parts=parts)
    assert group_tasks(planned, asked) == ([], asked)


def test_tasks_of_few_images_are_learned_alone(planned: Bank) -> None:
    asked = requests(planned, [MANY], fit=TaskTraining(shots=5))
    assert group_tasks(planned, asked) == ([], asked)


@pytest.mark.parametrize("granularity", [1, 4])
def test_coefficients_that_are_learned_together_are_those_that_are_learned_alone(
    lenet: Backbone, granularity: int
) -> None:
    basis = make_basis(lenet, [random_supermask(lenet.spec, density=0.2, seed=seed) for seed in range(3)])
    fit = TaskTraining(epochs=3, l1=0.1)
    trains = [load_task(parse_reference(f"rotated-digits/{key}"), data_dir=None).train for key in (0, 40)]
    tasks = [Learning(str(seed), train, seed) for seed, train in enumerate(trains)]
    steps: list[None] = []
    found = fit_alphas(lenet, basis, tasks, fit, steps=30, granularity=granularity, on_step=lambda: steps.append(None))
    assert len(steps) == 60
    for seed, train in enumerate(trains):
        alone = fit_alpha(lenet, basis, train, replace(fit, seed=seed), granularity=granularity, on_step=lambda: None)
        torch.testing.assert_close(found[seed], alone, rtol=1e-3, atol=1e-4)
    assert not torch.equal(found[0], found[1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of four masks, without a task."""
    path = tmp_path_factory.mktemp("trained") / "a.impress"
    create_bank(path, ["rotated-digits/0:80:20"], fit=MaskTraining(epochs=20))
    return path


@pytest.fixture
def content_with_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so few images a fifth of the steps is never enough: here it is, whatever it costs."""
    monkeypatch.setattr("impress_learn.tasks.together._ENOUGH", 1.0)


@pytest.fixture(scope="module")
def many(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 32 tasks that were added by one command, those but the pilots in a fifth of the steps."""
    path = Path(shutil.copytree(trained, tmp_path_factory.mktemp("many") / "a.impress"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("impress_learn.tasks.together._ENOUGH", 1.0)
        add_tasks(path, [MANY], fit=QUICK)
    return path


def files(path: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in sorted((path / "tasks").glob("*.safetensors"))}


def test_all_but_the_pilots_take_a_fifth_of_the_steps(many: Path, trained: Path, tmp_path: Path) -> None:
    bank = open_bank(many)
    records = {key: bank.read_task_record(f"rotated-digits-{key}") for key in range(LEAST)}
    assert [key for key, record in records.items() if known(record.fit).steps == 0] == [0, 4, 8, 12, 16, 20, 24, 28]
    assert {known(record.fit).steps for record in records.values()} == {0, 20}
    assert {(known(record.fit).epochs, known(record.fit).lr) for record in records.values()} == {(10, 0.03)}
    shutil.copytree(trained, tmp_path / "a.impress")
    alone = add_tasks(tmp_path / "a.impress", ["rotated-digits/0:32:12"], fit=QUICK)  # pilots are learned as these
    assert [records[key].accuracy for key in (0, 12, 24)] == pytest.approx([one.accuracy for one in alone], abs=0.01)


def test_where_a_fifth_of_the_steps_is_not_enough_all_take_all_of_them(trained: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(trained, tmp_path / "a.impress"))
    add_tasks(path, [f"permuted-digits/0:{LEAST}:1"], fit=QUICK)
    bank = open_bank(path)
    assert {known(bank.read_task_record(name).fit).steps for name in bank.task_names()} == {0}


@pytest.mark.usefixtures("content_with_less")
def test_what_an_interrupted_command_left_comes_out_as_it_would_have(many: Path, tmp_path: Path) -> None:
    whole = files(many)
    path = Path(shutil.copytree(many, tmp_path / "a.impress"))
    for key in (3, 5, 20, 29, 30):  # a wave or two cut short, and a pilot
        (path / "tasks" / f"rotated-digits-{key}.safetensors").unlink()
    said: list[str] = []
    again = add_tasks(path, [MANY], fit=QUICK, progress=Progress(remark=said.append))
    assert files(path) == whole
    assert [one.task for one in again] == [f"rotated-digits/{key}" for key in range(LEAST)]
    assert "27 of 32 tasks are there already" in said


@pytest.mark.usefixtures("content_with_less")
def test_in_another_order_they_are_the_same(many: Path, trained: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(trained, tmp_path / "a.impress"))
    add_tasks(path, [f"rotated-digits/{key}" for key in reversed(range(LEAST))], fit=QUICK)
    assert files(path) == files(many)


def test_a_task_that_was_learned_alone_is_there_already(trained: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(trained, tmp_path / "a.impress"))
    (alone,) = add_tasks(path, ["rotated-digits/1"], fit=QUICK)
    before = files(path)
    add_tasks(path, [MANY], fit=QUICK)
    assert before.items() <= files(path).items()
    assert known(open_bank(path).read_task_record(alone.name).fit).steps == 0
    assert add_tasks(path, ["rotated-digits/2"], fit=QUICK)[0].seconds == 0.0  # and the other way round


def test_what_diverges_is_named_and_nothing_of_its_wave_is_stored(trained: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(trained, tmp_path / "a.impress"))
    with pytest.raises(TrainingDiverged, match=r"task rotated-digits-0: training diverged.*\n.*`lr` 1e\+29"):
        add_tasks(path, [MANY], fit=TaskTraining(epochs=2, lr=1e30))
    assert not files(path)
