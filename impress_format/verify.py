"""Every check there is on a bank, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from impress_format.bank import Bank, open_bank
from impress_format.errors import FormatError, ImpressError
from impress_format.weights import backbone_digest


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file, its path relative to the bank."""

    file: str
    error: str


@dataclass(frozen=True)
class Verification:
    """The outcome: how many files were checked, and every problem found."""

    checked: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_bank(path: Path | str) -> Verification:
    """Check every byte of a bank: checksums, sizes, shapes, counts, alpha values, and the backbone's digest.

    Raises:
        BankNotFound: there is no bank at `path`. Anything wrong inside a bank is reported, not raised.
    """
    path = Path(path)
    try:
        bank = open_bank(path)
    except FormatError as error:
        return Verification(checked=1, problems=(Problem(error.path.name, error.problem),))
    problems = []
    checked = 0
    for file, check in _checks(bank):
        checked += 1
        try:
            check()
        except FormatError as error:
            problems.append(Problem(file, error.problem))
        except ImpressError as error:
            problems.append(Problem(file, str(error)))
    return Verification(checked=checked, problems=tuple(problems))


def _checks(bank: Bank) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each file of the bank with the call that raises if it is not as it should be."""
    yield bank.manifest_path.name, lambda: _check_backbone(bank)
    for index in range(len(bank.manifest.masks)):
        yield _relative(bank, bank.mask_path(index)), lambda index=index: bank.read_mask(index)  # type: ignore[misc]
    for name in bank.task_names():
        yield f"tasks/{name}.safetensors", lambda name=name: bank.read_task(name)  # type: ignore[misc]
    if bank.manifest.calibration:
        yield bank.calibration_path.name, bank.read_calibration
    for stray in _strays(bank):
        yield _relative(bank, stray), lambda stray=stray: _refuse(stray)  # type: ignore[misc]


def _check_backbone(bank: Bank) -> None:
    spec = bank.backbone
    found = backbone_digest(spec.seed, spec.init, spec.layers)
    if found != spec.digest:
        raise FormatError(bank.manifest_path, f"expects backbone {spec.digest}, seed and layers give {found}")


def _strays(bank: Bank) -> Iterator[Path]:
    """Files that belong to no bank. Hidden ones (lock, unfinished writes) are no part of it and pass."""
    known = {bank.manifest_path, *(bank.mask_path(index) for index in range(len(bank.manifest.masks)))}
    if bank.manifest.calibration:
        known.add(bank.calibration_path)
    for path in sorted(bank.path.rglob("*")):
        is_task = path.parent == bank.path / "tasks" and path.suffix == ".safetensors"
        is_folder = path.is_dir() and not path.is_symlink() and path.parent == bank.path
        if not (path in known or is_task or path.name.startswith(".") or is_folder):
            yield path


def _refuse(path: Path) -> None:
    raise FormatError(path, "is no part of a bank")


def _relative(bank: Bank, path: Path) -> str:
    return path.relative_to(bank.path).as_posix()
