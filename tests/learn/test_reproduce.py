"""`impress reproduce`: what is measured, that it is not measured twice, and what is said of it."""

from __future__ import annotations

import csv
import json
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from impress_format import open_bank
from impress_format.errors import UsageError
from impress_learn import MaskTraining, Progress, TaskTraining, Workers
from impress_learn.progress import SILENT
from impress_learn.reproduce import run
from impress_learn.reproduce.bench import Bench, Row
from impress_learn.reproduce.figures import FIGURES
from impress_learn.reproduce.reckon import Reckoning, reckon
from impress_learn.reproduce.run import Remade, reproduce
from impress_learn.reproduce.scales import KINDS, SCALES, Scale

TINY = SCALES["tiny"]
LEAST = replace(
    TINY,
    settings={
        stream: replace(
            setting,
            counts=(1, 2),
            most=dict.fromkeys(KINDS, 2),
            most_elsewhere=1,
            new=setting.new[:1],
            masks=MaskTraining(epochs=1),
            alpha=TaskTraining(epochs=1),
            fitted=1,
        )
        for stream, setting in TINY.settings.items()
    },
)
OF_TINY = [name for name, figure in FIGURES.items() if figure.cells(TINY)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Remade]]:
    pytest.importorskip("matplotlib", reason="the extra reproduce is not installed")
    folder = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SCALES", {**SCALES, "tiny": LEAST})
        return folder, reproduce(["all"], folder)


def of(remade: Sequence[Remade], name: str) -> Remade:
    return next(one for one in remade if one.name == name)


def test_every_figure_is_measured_drawn_and_written_down(made: tuple[Path, list[Remade]]) -> None:
    folder, remade = made
    assert [one.name for one in remade] == OF_TINY
    assert set(FIGURES) - set(OF_TINY) == {"figure-4", "figure-9", "figure-10"}  # photos
    for one in remade:
        with Image.open(folder / "tiny" / f"{one.name}.png") as image:
            assert image.size[0] > 600
        root = ElementTree.fromstring((folder / "tiny" / f"{one.name}.svg").read_text())
        assert root.tag.endswith("svg")
        rows = list(csv.DictReader((folder / "tiny" / f"{one.name}.csv").read_text().splitlines()))
        assert [float(row["accuracy"]) for row in rows] == [row.accuracy for row in one.rows]
        document = json.loads((folder / "tiny" / f"{one.name}.json").read_text())
        assert len(document["rows"]) == len(one.rows)
        assert f"## {one.name}: {one.title}" in (folder / "tiny" / "README.md").read_text()


def test_coefficients_are_those_of_the_first_masks_of_each_kind(made: tuple[Path, list[Remade]]) -> None:
    folder, remade = made
    rows = [row for row in of(remade, "figure-2").rows if row.what == "combined"]
    assert [(row.kind, row.masks) for row in rows] == [(kind, count) for kind in KINDS for count in (1, 2)]
    for row in rows:
        bank = open_bank(folder / "tiny" / "banks" / f"rotated-{row.kind}-0.1-{row.masks}")
        pool = open_bank(folder / "tiny" / "banks" / f"rotated-{row.kind}-0.1")
        assert len(bank.manifest.masks) == row.masks
        assert bank.manifest.masks == pool.manifest.masks[: row.masks]
        assert bank.basis_digest(row.masks) == pool.basis_digest(row.masks)
        assert bank.read_task_record(bank.find_task(row.task)).accuracy == pytest.approx(row.accuracy)


def test_controls_stand_beside_them(made: tuple[Path, list[Remade]]) -> None:
    rows = of(made[1], "figure-3").rows
    whats = {row.what for row in rows}
    assert whats == {"combined", "own mask", "wrong mask", "best mask"}
    assert {row.what for row in of(made[1], "basis-gn").rows} == {"basis-GN", "basis-GN, l1", "dedicated"}
    assert {row.what for row in of(made[1], "gn").rows} == {"GN, one-shot", "GN, exhaustive", "GN, signature"}


def test_figures_by_density_share_the_pools_of_the_others(made: tuple[Path, list[Remade]]) -> None:
    folder, remade = made
    rows = of(remade, "figure-7").rows
    assert {(row.density, row.masks) for row in rows if row.what == "combined"} == {(0.1, 1), (0.1, 2), (0.2, 1)}
    assert {row.density for row in rows if row.what == "own mask"} == {0.1, 0.2}
    again = {row for row in of(remade, "figure-2").rows if row.kind == "homogeneous"}
    assert again == {row for row in rows if row.kind == "homogeneous" and row.density == 0.1}
    pool = open_bank(folder / "tiny" / "banks" / "rotated-homogeneous-0.2")
    assert [mask.density for mask in pool.manifest.masks] == [0.2]


def test_time_and_disk_are_told_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the extra reproduce is not installed")
    monkeypatch.setattr(run, "SCALES", {**SCALES, "tiny": LEAST})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[str] = []
    reproduce(["figure-2"], tmp_path, progress=Progress(step=lambda: told.append("a step"), remark=told.append))
    # own 1, heterogeneous 2, homogeneous 2; one new task over one and two masks of three kinds
    assert told[0].startswith("5 masks and coefficients of 6 tasks are to be trained below ")
    assert re.search(r": two minutes at most by some steps that were timed, \d+ MB$", told[0])
    assert "figure-2" in told[1]
    left = left_of("figure-2", tmp_path)
    assert (left.masks, left.fits, left.seconds, left.bytes) == (0, 0, 0.0, 0.0)
    more = left_of("figure-7", tmp_path)
    assert (more.masks, more.fits) == (2, 1)  # of the other density alone
    assert 0 < more.seconds < 600
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]  # what was timed is thrown away


def test_disk_is_reckoned_as_it_comes_out(made: tuple[Path, list[Remade]], tmp_path: Path) -> None:
    folder, _ = made
    told = sum(left_of(name, tmp_path).bytes for name in ("figure-2", "figure-3"))
    banks = [path for path in (folder / "tiny" / "banks").iterdir() if not re.search(r"-0\.2(-\d+)?$", path.name)]
    assert 0.8 * disk(banks) < told < 1.2 * disk(banks)


def disk(folders: Sequence[Path]) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def test_what_another_seed_made_is_left_alone(made: tuple[Path, list[Remade]]) -> None:
    with pytest.raises(UsageError, match="was made with `seed` 0, not 1: choose another folder"):
        reproduce(["figure-2"], made[0], seed=1)


def test_the_page_has_all_figures_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the extra reproduce is not installed")
    monkeypatch.setattr(run, "SCALES", {**SCALES, "tiny": LEAST})
    for name in ("gn", "figure-2"):
        reproduce([name], tmp_path)
    page = (tmp_path / "tiny" / "README.md").read_text()
    assert page.index("## figure-2") < page.index("## gn")


def left_of(name: str, folder: Path) -> Reckoning:
    bench, figure = Bench(LEAST, folder / "tiny", 0, None, None, SILENT), FIGURES[name]
    return reckon(bench, [(figure.measurement, cell) for cell in figure.cells(LEAST)])


def test_what_was_measured_is_not_measured_again(
    made: tuple[Path, list[Remade]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remade = made
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    steps: list[None] = []
    monkeypatch.setattr(run, "SCALES", {**SCALES, "tiny": LEAST})
    again = reproduce(["all"], folder, progress=Progress(step=lambda: steps.append(None)))
    assert steps == []
    assert [one.rows for one in again] == [one.rows for one in remade]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def row(
    what: str,
    accuracy: float,
    *,
    kind: str = "heterogeneous",
    masks: int = 5,
    density: float = 0.1,
    stream: str = "rotated",
) -> Row:
    return Row(stream=stream, kind=kind, what=what, density=density, masks=masks, task="t", accuracy=accuracy)


def test_a_claim_holds_or_does_not_or_was_not_tried() -> None:
    judge = FIGURES["figure-2"].judge
    rows = [row("own mask", 0.95), row("wrong mask", 0.1), row("best mask", 0.3)]
    rows += [row("combined", 0.5), row("combined", 0.94, masks=25)]
    rows += [row("combined", 0.6, kind="homogeneous"), row("combined", 0.3, kind="random")]
    assert [claim.verdict for claim in judge(rows)] == ["yes", "no", "no", "yes"]
    assert "25 heterogeneous masks 94.0 %, own mask 95.0 %" in judge(rows)[0].ours
    assert "the best of them 30.0 %" in judge(rows)[3].ours
    gn = FIGURES["gn"].judge
    assert [claim.verdict for claim in gn([row("GN, signature", 1.0, masks=100)])] == ["not tried"]
    assert [claim.verdict for claim in gn([row("GN, signature", 0.95, masks=250)])] == ["yes"]
    assert [claim.verdict for claim in gn([row("GN, one-shot", 0.1, masks=250)])] == ["no"]


def test_numbers_of_the_authors_runs_stand_beside_ours() -> None:
    rows = [row(what, 0.5, stream="cifar100") for what in ("own mask", "wrong mask", "best mask")]
    rows += [row("combined", 0.58, kind=kind, masks=3, stream="cifar100") for kind in KINDS]
    claims = {claim.published: claim for claim in FIGURES["figure-4"].judge(rows)}
    assert claims["3 heterogeneous masks: 57.1 %"].verdict == "yes"
    assert claims["a mask of the task's own: 88.9 %"].verdict == "no"
    assert claims["20 ± 2 % under a mask of another task"].verdict == "no"
    assert claims["3 random masks: 30 %"].verdict == "no"  # 28 points above is not what they have
    assert "5 heterogeneous masks: 62.0 %" not in claims


def test_each_density_is_judged_by_itself() -> None:
    rows = [row("own mask", 0.9, density=density, kind="own") for density in (0.1, 0.2)]
    rows += [row("best mask", 0.5, density=density, kind="homogeneous") for density in (0.1, 0.2)]
    rows += [row("combined", 0.89, kind="homogeneous"), row("combined", 0.4, kind="homogeneous", density=0.2)]
    claims = FIGURES["figure-7"].judge(rows)
    assert [claim.verdict for claim in claims] == ["yes", "no"]
    assert "best of 5 as it is 50.0 %" in claims[0].ours


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_the_first_masks_of_a_stream_are_spread_and_no_new_task_has_one(scale: Scale) -> None:
    rotated = scale.settings["rotated"]
    angles = list(rotated.basis)
    assert len(set(angles)) == rotated.most["heterogeneous"]
    some = sorted(angles[: max(5, rotated.counts[0])])
    gaps = [after - before for before, after in zip(some, [*some[1:], some[0] + 360], strict=True)]
    assert max(gaps) <= 2.7 * 360 / len(some)
    for setting in scale.settings.values():
        for kind in KINDS:
            for density in setting.densities:
                basis = setting.basis_tasks(kind, density)
                assert set(setting.new_tasks()).isdisjoint(basis)
                assert len(basis) == (setting.size_of(kind, density) if kind == "heterogeneous" else 1)


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        (["figure-1"], {}, "no figure figure-1: expected all or one of figure-2, figure-3"),
        (["figure-4"], {}, "figure-4 is of photos, which `scale` tiny has none of: use small or paper"),
        (["figure-5"], {}, "no figure figure-5"),
        (["all"], {"scale": "huge"}, "`scale` huge: expected one of tiny, small, paper"),
        (["all"], {"device": Workers(0)}, "`workers` 0: expected at least 1"),
        (["all"], {"seed": -1}, "`seed` -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(names: list[str], more: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        reproduce(names, tmp_path / "out", **more)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'impresslearn\[reproduce\]'"):
        reproduce(["figure-2"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lines_that_lie_close_together_are_drawn_apart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra reproduce is not installed")
    from impress_learn.reproduce.draw import draw

    for least, from_nothing in ((0.92, False), (0.2, True)):
        rows = [row("basis-GN", least), row("basis-GN", 0.95, masks=10), row("dedicated", 0.93)]
        svg, _ = draw("close", rows, tmp_path / "a")
        texts = {text.text for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")}
        assert ("20" in texts) == from_nothing


def test_of_nothing_there_is_no_mean() -> None:
    from impress_learn.reproduce.claims import mean_of

    assert math.isnan(mean_of([], what="combined"))
