"""What works of timm: the smallest model of each of its modules, tried here; the table is docs/timm.md.

    python tests/benchmarks/timm_models.py [MODULE...] [--table docs/timm.csv]

Each model is built for images of several sizes, and at the smallest that it takes masked at random, given BatchNorm
statistics, exported, loaded by the printed lines and compared, and the same as an ONNX graph. Each in a process of its
own, which may take LIMIT_S seconds. Rows of modules that are named replace those in the table; without names all are
made. A row that fails says why.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import onnx.reference  # noqa: F401  for all processes
import onnxscript  # noqa: F401
import timm
import torch

from impress_format.errors import ImpressError, UsageError
from impress_learn.jobs.export import ExportFormat, write_network
from impress_learn.masks.basis import effective_weights, make_basis
from impress_learn.masks.edge_popup import random_supermask
from impress_learn.network.backbone import Backbone
from impress_learn.network.build import build_backbone, usual_side
from impress_learn.network.norm_statistics import with_statistics
from impress_learn.network.plain_check import SAME_KERNELS
from impress_learn.network.probe import probe_images
from impress_learn.network.trial import try_network

TABLE = Path(__file__).parents[2] / "docs" / "timm.csv"
SIZES = (32, 64, 96)
CLASSES, DENSITY = 10, 0.1
LIMIT_S = 900
_MEMORY = 12 << 30
"""Bytes that the process of one model may have for itself: a machine that runs out of memory ends others."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model; text, as the table has it.

    Attributes:
        millions: of parameters, with ten classes.
        made_for: side of the images that timm made it for.
        sizes: sides of images that it takes, of `SIZES`, or if none of these the one that it was made for.
        tried_at: the side that the rest was tried at.
        maskable: share of its parameters that carry masks.
        sees: share of the pixels that its logits depend on.
        statistics: how many BatchNorm layers take statistics of the bank's images.
        export, onnx: `yes`, or why not.
    """

    module: str
    model: str
    millions: str = ""
    made_for: str = ""
    sizes: str = ""
    tried_at: str = ""
    maskable: str = ""
    sees: str = ""
    statistics: str = ""
    export: str = ""
    onnx: str = ""


def smallest(module: str) -> str:
    """The model of a module that has fewest parameters; they are counted without being made."""

    def parameters(name: str) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in timm.create_model(name).parameters())

    return min(timm.list_models(module=module), key=parameters)


def try_model(module: str, model: str) -> Row:
    """Build, mask, export one model."""
    arch, refused = f"timm:{model}", ""
    usual = usual_side(arch)
    smallest_one: Backbone | None = None
    taken: list[int] = []
    for side in (*SIZES, usual):
        if taken and side not in SIZES:
            break
        try:
            backbone = build(arch, side)
        except UsageError as error:
            refused = reason(error)
            continue
        taken.append(side)
        smallest_one = smallest_one or backbone
    if smallest_one is None:
        return Row(module=module, model=model, made_for=str(usual), export=refused, onnx=refused)
    spec = smallest_one.spec
    parameters = sum(parameter.numel() for parameter in smallest_one.module.parameters())
    supermask = random_supermask(spec, density=DENSITY, seed=1)
    alpha = torch.full((1, len(smallest_one.weights)), DENSITY**-0.5)  # as large as the network that is not masked
    effective = effective_weights(make_basis(smallest_one, [supermask]), alpha)
    images = probe_images(spec) if smallest_one.has_batch_norm else None
    effective = {**with_statistics(smallest_one, effective, images)}
    return Row(
        module=module,
        model=model,
        millions=f"{parameters / 1e6:.2f}",
        made_for=str(usual),
        sizes=" ".join(map(str, taken)),
        tried_at=str(spec.input_shape[-1]),
        maskable=f"{spec.weights / parameters:.1%}",
        sees=f"{try_network(smallest_one).share:.1%}",
        statistics=str(len(smallest_one.norms)),
        export=try_export(smallest_one, effective, "safetensors"),
        onnx=try_export(smallest_one, effective, "onnx"),
    )


def build(arch: str, side: int) -> Backbone:
    return build_backbone(arch, init="signed-constant", seed=0, input_shape=(3, side, side), classes=CLASSES)


def try_export(backbone: Backbone, effective: dict[str, torch.Tensor], file_format: ExportFormat) -> str:
    """`yes` where what was written answers as it should, by the printed lines too, else why not."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network"
        try:
            written = write_network(backbone, effective, CLASSES, file, file_format=file_format, metadata={"a": "b"})
        except ImpressError as error:
            return reason(error)
        return "yes" if file_format == "onnx" else try_lines(written.load, backbone, effective)


def try_lines(lines: str, backbone: Backbone, effective: dict[str, torch.Tensor]) -> str:
    """`yes` where the printed lines make a network that gives the same logits."""
    images, names = probe_images(backbone.spec)[:2], dict[str, Any]()
    try:
        exec(lines, names)
    except Exception as error:  # whatever timm raises
        return f"the printed lines fail: {reason(error)}"
    with torch.no_grad():
        expected, found = backbone(effective, images), names["net"](images)
    apart = float((found - expected).abs().max() / expected.abs().max())
    return "yes" if apart <= SAME_KERNELS else f"the printed lines make a network {apart:.1%} apart"


def reason(error: BaseException) -> str:
    """In a line, without what is named by the row already."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else line[:199] + "…"


def in_process(task: Callable[[], Row]) -> Row | str:
    """What a function gives in a process of its own, or why it gave nothing."""
    context = multiprocessing.get_context("fork")  # torch and timm are imported already
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, task))
    process.start()
    sender.close()
    try:
        if not receiver.poll(LIMIT_S):
            return f"not done after {LIMIT_S} s"
        answer: Row | str = receiver.recv()
        return answer
    except EOFError:
        process.join()
        return f"its process ended with status {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _send(sender: Connection, task: Callable[[], Row]) -> None:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    warnings.simplefilter("ignore")
    try:
        sender.send(task())
    except Exception as error:  # of one model; the others are tried
        sender.send(f"{type(error).__name__}: {reason(error)}")


def make_row(module: str, model: str | None = None) -> Row:
    """The row of a module, of its smallest model unless one is given, whatever happens."""
    chosen = model or smallest(module)
    row = in_process(lambda: try_model(module, chosen))
    return Row(module=module, model=chosen, export=row, onnx=row) if isinstance(row, str) else row


def read_table(path: Path) -> dict[str, Row]:
    """Rows by module; none where there is no table."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["module"]: Row(**row) for row in csv.DictReader(file)}


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """As CSV, and as a page beside it."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    path.with_suffix(".md").write_text(page(rows))


def page(rows: Sequence[Row]) -> str:
    """The table for people."""
    notes: list[str] = []

    def cell(row: Row, answer: str) -> str:
        if answer in ("yes", ""):
            return answer
        notes.append(f"{len(notes) + 1}. {row.model}: {answer.replace('<', '&lt;')}")
        return f"no ({len(notes)})"

    lines = [
        f"| {row.module} | {row.model} | {row.millions} | {row.made_for} | {row.sizes} | {row.maskable} "
        f"| {row.sees} | {row.statistics} | {cell(row, row.export)} | {cell(row, row.onnx)} |"
        for row in rows
    ]
    works, exported, onnx = (sum(is_yes(row) for row in rows) for is_yes in _COUNTS)
    here = f"timm {timm.__version__}, under torch {torch.__version__.partition('+')[0]}"
    text = f"""# timm models that work

The table has the smallest model of each of the {len(rows)} modules of {here}.

- {works} can be built as a backbone.
- {exported} can be exported as weights.
- {onnx} can be exported as ONNX graphs.

Each exported file was loaded again and gave the logits of the backbone under a random mask.
`python tests/benchmarks/timm_models.py` makes this page and [timm.csv](timm.csv). `make test-slow` makes the table
again and compares.

The columns:

- sizes: the image sizes that the model takes, of {", ".join(map(str, SIZES))} pixels, or else the size that timm made
  it for. The columns after it were measured at the first of them.
- maskable: share of the model's parameters that carry masks.
- sees: share of the pixels that the logits depend on.
- norms: number of BatchNorm layers. They take statistics of the bank's images.
- export: the weights were written, loaded by the printed lines, and compared with the bank's logits.
- ONNX: the same for the graph, run by the reference evaluator of the package onnx.

| module | model | million parameters | made for | sizes | maskable | sees | norms | export | ONNX |
|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}

{chr(10).join(notes)}
"""
    return text.rstrip() + "\n"


_COUNTS: tuple[Callable[[Row], bool], ...] = (
    lambda row: bool(row.sizes),
    lambda row: row.export == "yes",
    lambda row: row.onnx == "yes",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--table", type=Path, default=TABLE)
    asked = parser.parse_args()
    rows = read_table(asked.table) if asked.modules else {}
    for module in asked.modules or timm.list_modules():
        rows[module] = make_row(module)
        print(",".join(asdict(rows[module]).values()), file=sys.stderr, flush=True)
        write_table(asked.table, [rows[name] for name in sorted(rows)])


if __name__ == "__main__":
    main()
