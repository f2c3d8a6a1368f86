"""Where a reproduction is made: pools of masks, banks of the first of them, what was measured on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from impress_format.bank import Bank, open_bank
from impress_format.bank_files.folder import MANIFEST
from impress_format.disk.files import make_folder, write_atomically
from impress_format.operations.prefix import first_masks
from impress_learn.jobs.create import create_bank
from impress_learn.plan.asked import Masks
from impress_learn.progress import Progress
from impress_learn.reproduce.scales import Kind, Scale, Setting, Stream
from impress_learn.running.device import Device, Workers


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        what: `combined`, `own mask`, `wrong mask`, `best mask`; `basis-GN`, `dedicated`; `GN` and its method.
        masks: how many were combined, or told apart.
        task: by its reference.
        accuracy: on test images, from 0 to 1; of GN the share of groups whose task was found.
    """

    stream: str
    kind: str
    what: str
    density: float
    masks: int
    task: str
    accuracy: float

    def flat(self) -> dict[str, object]:
        """All of it, as CSV and JSON have it."""
        return asdict(self)


@dataclass(frozen=True)
class Cell:
    """A pool of masks that is measured: its first masks, in several numbers."""

    stream: Stream
    kind: Kind
    density: float

    @property
    def name(self) -> str:
        """What its bank is called."""
        return f"{self.stream}-{self.kind}-{self.density:g}"

    def row(self, what: str, masks: int, task: str | None, accuracy: float, *, kind: str | None = None) -> Row:
        """A measurement of it."""
        return Row(
            stream=self.stream,
            kind=kind or self.kind,
            what=what,
            density=self.density,
            masks=masks,
            task=task or "",
            accuracy=accuracy,
        )


@dataclass(frozen=True)
class Bench:
    """Where a reproduction is made, and with what.

    Attributes:
        folder: that banks and measurements are kept in; what is there is not made again.
        seed: of the network, the masks and all else.
    """

    scale: Scale
    folder: Path
    seed: int
    device: Device
    data_dir: Path | None
    progress: Progress

    @property
    def alone(self) -> Device:
        """The device of what is not spread over workers."""
        return self.device.device if isinstance(self.device, Workers) else self.device

    @property
    def quiet(self) -> Progress:
        """Progress that counts steps and drops remarks: finished cells are asked for many times."""
        return replace(self.progress, remark=lambda _: None)

    def setting(self, cell: Cell) -> Setting:
        """How its stream is measured."""
        return self.scale.settings[cell.stream]

    def pool(self, cell: Cell) -> Bank:
        """All masks of a cell."""
        setting, kind = self.setting(cell), cell.kind
        size = setting.size_of(kind, cell.density)
        masks = Masks(
            masks_per_task={"heterogeneous": 1, "homogeneous": size, "random": 0}[kind],
            random_masks=size if kind == "random" else 0,
            density=cell.density,
            allocation=setting.allocation,
        )
        return self.bank(self.pool_path(cell), setting, setting.basis_tasks(kind, cell.density), masks)

    def own(self, cell: Cell) -> Bank:
        """Masks of the new tasks themselves, of the same density: what SupSup stores."""
        setting = self.setting(cell)
        masks = Masks(masks_per_task=1, density=cell.density, allocation=setting.allocation)
        return self.bank(self.own_path(cell), setting, setting.new_tasks(), masks)

    def first(self, cell: Cell, count: int) -> Bank:
        """The first masks of a cell, as a bank of their own."""
        return first_masks(self.pool(cell), count, self.first_path(cell, count))

    def pool_path(self, cell: Cell) -> Path:
        return self.folder / "banks" / cell.name

    def own_path(self, cell: Cell) -> Path:
        return self.folder / "banks" / f"{cell.stream}-own-{cell.density:g}"

    def first_path(self, cell: Cell, count: int) -> Path:
        return self.folder / "banks" / f"{cell.name}-{count}"

    def there(self, path: Path) -> Bank | None:
        """The bank in a folder, if one was begun."""
        return open_bank(path) if (path / MANIFEST).exists() else None

    def kept(self, name: str, measure: Callable[[], Iterable[Row]]) -> list[Row]:
        """What was measured under this name before, or what is measured now."""
        path = self.kept_path(name)
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode(path.read_bytes(), type=list[Row])
        rows = list(measure())
        make_folder(path.parent)
        write_atomically(path, msgspec.json.encode(rows), replace=True)
        return rows

    def kept_path(self, name: str) -> Path:
        return self.folder / "measured" / f"{name}.json"

    def bank(self, path: Path, setting: Setting, tasks: Sequence[str], masks: Masks) -> Bank:
        """A bank of a stream, with its network."""
        return create_bank(
            path,
            tasks,
            network=setting.network,
            masks=masks,
            fit=replace(setting.masks, seed=self.seed),
            device=self.device,
            data_dir=self.data_dir,
            progress=self.quiet,
        )
