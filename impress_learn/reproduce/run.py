"""Remake figures and claims: measure, draw, write down beside what was published."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from impress_format.disk.files import make_folder, write_atomically
from impress_format.errors import UsageError
from impress_learn.progress import SILENT, Progress
from impress_learn.reproduce.bench import Bench, Row
from impress_learn.reproduce.claims import Claim
from impress_learn.reproduce.figures import FIGURES
from impress_learn.reproduce.reckon import reckon
from impress_learn.reproduce.scales import SCALES, Scale, ScaleName
from impress_learn.running.device import Device, Workers, settle_workers
from impress_learn.training.config import check_seed, require


@dataclass(frozen=True, kw_only=True)
class Remade:
    """A figure that was remade.

    Attributes:
        name: as it is asked for.
        rows: what was measured.
        claims: what the paper says, and what is so here.
        files: that were written.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Kept:
    """What the page has of a figure."""

    title: str
    claims: tuple[Claim, ...]


def reproduce(
    names: Sequence[str],
    output: Path | str,
    *,
    scale: ScaleName = "tiny",
    seed: int = 0,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> list[Remade]:
    """Remake figures of ImpressLearn; what an interrupted run left is used again.

    Args:
        names: of figures (`reproduce.figures.FIGURES`); `all` for every one that the scale has data for.
        output: a folder; in its folder SCALE are the figures, and the banks that they were measured on.
        scale: `tiny` (embedded digits, minutes), `small` (MNIST and CIFAR-100, under an hour on two cores), `paper`
            (days).
        seed: of the network, the masks and all else.
        device: as of create_bank; `Workers` for several processes, or a Ray cluster.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        One for each name. Each wrote NAME.svg, NAME.png, NAME.csv and NAME.json; `README.md` has the claims of all
        that are there.

    Raises:
        UsageError: no such figure or scale, a scale without a figure's data, matplotlib is not installed, or what is in
            the folder was made with another seed; nothing was started.
        DataError: data are missing.
        StorageError, TrainingDiverged, OutOfMemory, WorkerLost, ClusterError: what was measured before stays.

    Examples:
        >>> from impress_learn.reproduce.run import reproduce
        >>> (figure,) = reproduce(["figure-2"], "paper")
        >>> figure.claims[0].verdict
        'yes'
    """
    require(scale in SCALES, f"`scale` {scale}: expected one of {', '.join(SCALES)}")
    wanted = _wanted(names, scale)
    check_seed(seed)
    settle_workers(device)
    _require_matplotlib()
    folder = Path(output) / scale
    make_folder(folder)
    _keep_seed(folder, seed)
    bench = Bench(SCALES[scale], folder, seed, device, data_dir, progress)
    _announce(bench, wanted)
    remade = []
    for name in wanted:
        started = time.perf_counter()
        progress.remark(f"{name}: {FIGURES[name].title}")
        remade.append(_remake(name, bench, scale))
        _write(folder / "README.md", _page(folder, scale, bench.scale, seed).encode())
        progress.remark(f"{name}: {time.perf_counter() - started:,.0f} s")
    return remade


def _remake(name: str, bench: Bench, scale: str) -> Remade:
    from impress_learn.reproduce.draw import draw

    figure = FIGURES[name]
    measured = (row for cell in figure.cells(bench.scale) for row in figure.measurement.rows(bench, cell))
    rows = tuple(dict.fromkeys(measured))  # a mask of the task's own stands beside all kinds
    claims = tuple(figure.judge(rows))
    path = bench.folder / name
    drawn = draw(f"{figure.title} ({scale}: {bench.scale.images})", rows, path)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0].flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.flat() for row in rows)
    _write(path.with_suffix(".csv"), table.getvalue().encode())
    document = {"name": name, "title": figure.title, "scale": scale, "seed": bench.seed, "rows": rows, "claims": claims}
    _write(path.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(document), indent=2))
    files = (*drawn, path.with_suffix(".csv"), path.with_suffix(".json"))
    return Remade(name=name, title=figure.title, rows=rows, claims=claims, files=files)


def _wanted(names: Sequence[str], scale: ScaleName) -> list[str]:
    """Figures by name, each once.

    Raises:
        UsageError: there is none of that name, or this scale has not its data.
    """
    can = [name for name, figure in FIGURES.items() if figure.cells(SCALES[scale])]
    for name in names:
        require(name in {"all", *FIGURES}, f"no figure {name}: expected all or one of {', '.join(FIGURES)}")
        require(name in {"all", *can}, f"{name} is of photos, which `scale` {scale} has none of: use small or paper")
    return list(dict.fromkeys(name for asked in names for name in (can if asked == "all" else [asked])))


def _keep_seed(folder: Path, seed: int) -> None:
    """Note the seed that all in a folder is made with.

    Raises:
        UsageError: it was made with another.
    """
    path = folder / "seed"
    try:
        write_atomically(path, f"{seed}\n".encode(), replace=False)
    except FileExistsError:
        kept = path.read_text(errors="replace").strip()
        require(kept == str(seed), f"{folder} was made with `seed` {kept}, not {seed}: choose another folder")


def _announce(bench: Bench, wanted: Sequence[str]) -> None:
    """Say what is to be done, and how long it will take, before anything is trained."""
    figures = [FIGURES[name] for name in wanted]
    left = reckon(bench, [(figure.measurement, cell) for figure in figures for cell in figure.cells(bench.scale)])
    if not left.masks and not left.fits:
        return
    ray = isinstance(bench.device, Workers) and bench.device.engine == "ray"
    takes = f"{_duration(left.seconds)} by some steps that were timed" + (" in one process here" if ray else "")
    bench.progress.remark(
        f"{left.masks:,} masks and coefficients of {left.fits:,} tasks are to be trained below {bench.folder}: "
        f"{takes}, {max(1, left.bytes / 1e6):,.0f} MB"
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return "two minutes at most"
    return f"about {minutes / 60:,.1f} hours" if minutes > 100 else f"about {minutes} minutes"


def _page(folder: Path, scale: str, sizes: Scale, seed: int) -> str:
    """What was claimed and what is so in all figures that are there, as a page beside the pictures."""
    lines = [
        "# ImpressLearn, remade",
        "",
        f"Made by `impress reproduce`, scale {scale}, seed {seed}: {sizes.images}. "
        "Accuracy on test images. Bands reach from the least to the best task, boxes over the new tasks, with medians. "
        "`own mask`, `best mask` and `wrong mask` are means over the new tasks: under a mask that was trained for "
        "each, under the one of the pool that does best on its training images, and under all of these.",
        "",
        "| stream | densities | epochs of masks | of coefficients | new tasks |",
        "|---|---|---|---|---|",
        *(
            f"| {setting.data} | {', '.join(f'{density:g}' for density in setting.densities)} | {setting.masks.epochs} "
            f"| {setting.alpha.epochs} | {len(setting.new)} |"
            for setting in sizes.settings.values()
        ),
    ]
    for name in FIGURES:
        path = folder / f"{name}.json"
        if path.exists():
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            lines += [
                "",
                f"## {name}: {kept.title}",
                "",
                f"![{kept.title}]({name}.svg)",
                "",
                "| published | here | so |",
                "|---|---|---|",
                *(f"| {claim.published} | {claim.ours} | {claim.verdict} |" for claim in kept.claims),
            ]
    return "\n".join(lines) + "\n"


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, content, replace=True)


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "figures are drawn by the package matplotlib: pip install 'impresslearn[reproduce]'"
        ) from error
