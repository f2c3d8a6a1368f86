"""Every check there is on a bank, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from impress_format.bank import MASKS, TASKS, Bank, open_bank
from impress_format.errors import FormatError, ImpressError
from impress_format.identity import read_identity
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
    if bank.manifest.identity:
        yield bank.identity_path.name, lambda: read_identity(bank)
    for stray in _strays(bank):
        yield _relative(bank, stray), lambda stray=stray: _refuse(stray)  # type: ignore[misc]


def _check_backbone(bank: Bank) -> None:
    spec = bank.backbone
    found = backbone_digest(spec.seed, spec.init, spec.layers)
    if found != spec.digest:
        raise FormatError(bank.manifest_path, f"expects backbone {spec.digest}, seed and layers give {found}")


def _strays(bank: Bank) -> Iterator[Path]:
    """What belongs to no bank. Hidden files (lock, unfinished writes) are no part of it and pass.

    A folder that does not belong is one stray, whatever is in it: it may be deeper than paths can be long.
    """
    known = {bank.manifest_path, *(bank.mask_path(index) for index in range(len(bank.manifest.masks)))}
    known |= {bank.task_path(name) for name in bank.task_names()}
    folders = [bank.path / MASKS, bank.path / TASKS]
    if bank.manifest.calibration:
        known.add(bank.calibration_path)
    if bank.manifest.identity:
        known.add(bank.identity_path)
    for folder in (bank.path, *filter(Path.is_dir, folders)):
        for path in sorted(folder.iterdir()):
            if not (path in known or path.name.startswith(".") or (path in folders and path.is_dir())):
                yield path


def _refuse(path: Path) -> None:
    raise FormatError(path, "is no part of a bank")


def _relative(bank: Bank, path: Path) -> str:
    """The path within the bank, fit to print: a file name may hold line breaks, escapes of terminals, or no text."""
    name = path.relative_to(bank.path).as_posix()
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)
