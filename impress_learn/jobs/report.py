"""One page of a bank: what its files say as pictures and numbers, in a file of HTML that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from impress_format.bank import open_bank
from impress_format.disk.files import is_there, read_limited, refuse_taken, write_atomically
from impress_format.errors import BankMismatch, FormatError, UsageError
from impress_learn.progress import SILENT, Progress
from impress_learn.running.device import Device

if TYPE_CHECKING:
    from impress_format.bank import Bank
    from impress_learn.report.measured import Measurement
    from impress_learn.running.accuracy import Accuracy

_MOST_PAGE = 64 << 20
_MOST_MEASURED = 24
"""Tasks that are measured, of more these are spread evenly in the order of their names."""
_MOST_WITH_EXAMPLES = 12
_GROUPS = 200
"""Single images of a task whose task is looked for."""
_MOST_BY_ENTROPY = 64
"""Tasks to choose from where none has a signature: each image is asked under each of them."""
_MOST_CONFUSED = 24


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written.

    Attributes:
        file: the page.
        bytes: of it.
        measured: how many tasks it has measured numbers of: controls and images.
    """

    file: Path
    bytes: int
    measured: int


def report_bank(
    path: Path | str,
    file: Path | str,
    *,
    measure: bool = False,
    device: Device = None,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Write one page about a bank: a file of HTML that shows where masks look, what tasks weigh and cost, and more.

    The page holds its pictures, asks no network for anything and runs nothing. Without `measure` it is made of stored
    files alone, without torch; numbers that were measured before are taken from the page that is replaced, as long as
    the bank is the same.

    Args:
        path: the bank's folder.
        file: the page to write; a page that was written so before is replaced, any other file is not.
        measure: measure on test images too, of at most 24 tasks: masks of other tasks and the best single mask, which
            task single images are taken for, and examples of images.
        device: what `measure` computes on: a torch device, its name (`cpu`, `cuda`, `mps`), or a function that gives
            one; None for the CPU.
        data_dir: the folder that data sets are in; None for $IMPRESS_DATA, or one in the user's cache.
        progress: is told how it goes.

    Returns:
        What was written.

    Raises:
        StorageError: there is another file at `file`, or it cannot be written.
        FormatError: a file of the bank is damaged.
        DataError: with `measure`, data are missing.
        UsageError: `file` would lie in the bank's folder.
        BackboneMismatch: with `measure`, the rebuilt backbone has another digest.
        OutOfMemory: with `measure`, the network or the masks do not fit.

    Examples:
        >>> from impress_learn import report_bank
        >>> report_bank("build/demo.impress", "demo.html").measured
        0
    """
    file = Path(file)
    bank = open_bank(path)
    before = _page_before(bank, file)

    from impress_learn.report.facts import gather
    from impress_learn.report.page import render

    facts = gather(bank)
    measured = _measure(bank, device, data_dir, progress) if measure else _kept(bank, file, before, progress)
    content = render(facts, measured).encode("utf-8")
    try:
        write_atomically(file, content, replace=before is not None)
    except FileExistsError as error:
        raise refuse_taken(file) from error
    return Report(file=file, bytes=len(content), measured=0 if measured is None else len(measured.controls))


def page_of(bank: Bank) -> bytes:
    """The page of a bank from its stored files alone, as UTF-8.

    Raises:
        FormatError: a file of the bank is damaged.
    """
    from impress_learn.report.facts import gather
    from impress_learn.report.page import render

    return render(gather(bank), None).encode("utf-8")


def _page_before(bank: Bank, file: Path) -> str | None:
    """The page that will be replaced; None where there is no file.

    Raises:
        UsageError: the file would lie in the bank.
        StorageError: there is something else.
    """
    from impress_learn.report.page import BEGINNING

    if bank.path.resolve() in file.resolve().parents:
        raise UsageError(f"{file} would lie in the bank, whose folder holds its own files alone: choose another folder")
    if not is_there(file):
        return None
    try:
        page = read_limited(file, _MOST_PAGE).decode("utf-8")
    except (FormatError, UnicodeError) as error:
        raise refuse_taken(file) from error
    if not page.startswith(BEGINNING):
        raise refuse_taken(file)
    return page


def _kept(bank: Bank, file: Path, page: str | None, progress: Progress) -> Measurement | None:
    """What an earlier page has kept of this bank as it is now."""
    from impress_learn.report.measured import from_page, state_of

    try:
        kept = None if page is None else from_page(file, page)
    except FormatError as error:
        progress.remark(f"{error}: left out")
        return None
    if kept is not None and kept.state != state_of(bank):
        progress.remark(
            f"{file} has numbers measured of another state of the bank: left out, they can be measured again"
        )
        return None
    return kept


def _measure(bank: Bank, device: Device, data_dir: Path | None, progress: Progress) -> Measurement | None:
    """Measure some tasks of the bank; None where it has none that can be measured.

    Raises:
        DataError and others, as `evaluate`.
    """
    from impress_learn.report.measured import VERSION, ControlRecord, Measurement, state_of
    from impress_learn.report.words import spread_evenly

    state = state_of(bank)
    with_labels = [
        one for one in bank.summarise_tasks() if one.accuracy is not None and not one.task.startswith(_IN_MEMORY)
    ]
    names = [with_labels[place].name for place in spread_evenly(len(with_labels), _MOST_MEASURED)]
    if not names:
        progress.remark(f"{bank.path} has no task whose images can be found and have labels: nothing is measured")
        return None

    from impress_learn.jobs.evaluate import evaluate
    from impress_learn.report.examples import take_examples

    own = evaluate(bank.path, names, device=device, data_dir=data_dir, progress=progress)
    controls: dict[str, Accuracy] = {}
    if len(bank.manifest.masks) > 1:
        try:
            found = evaluate(bank.path, names, wrong_mask=True, device=device, data_dir=data_dir, progress=progress)
            controls = {one.name: one for one in found}
        except BankMismatch as error:  # no mask was trained for another task
            progress.remark(f"controls are not measured: {error}")
    shown = [names[place] for place in spread_evenly(len(names), _MOST_WITH_EXAMPLES)]
    examples = take_examples(bank, shown, device=device, data_dir=data_dir)
    records = []
    for one in own:
        control = controls.get(one.name)
        best = None if control is None else control.best_mask
        records.append(
            ControlRecord(
                name=one.name,
                task=one.task,
                samples=one.samples,
                accuracy=round(one.accuracy, 6),
                wrong_mask=None if control is None else round(control.accuracy, 6),
                best_mask=None if best is None else round(best.accuracy, 6),
                best_index=None if best is None else best.index,
                examples=examples.get(one.name, ()),
            )
        )
    measured = Measurement(version=VERSION, state=state, controls=tuple(records))
    return _with_found(bank, measured, names, device, data_dir, progress)


_IN_MEMORY = "dataset:"
"""Tasks of a Dataset in memory, which nobody finds by their reference."""


def _with_found(
    bank: Bank, measured: Measurement, names: list[str], device: Device, data_dir: Path | None, progress: Progress
) -> Measurement:
    """The same with the tasks that single images were taken for, where there is a choice and it can be asked."""
    import msgspec

    from impress_learn.identify.found import find_candidates
    from impress_learn.jobs.identify import evaluate_gn
    from impress_learn.report.measured import FoundRecord
    from impress_learn.report.words import spread_evenly

    candidates = find_candidates(bank)
    if len(candidates) < 2 or (candidates.without_signature is not None and len(candidates) > _MOST_BY_ENTROPY):
        return measured
    of_masks = [one.task for one in candidates.tasks if one.mask is not None and not one.task.startswith(_IN_MEMORY)]
    asked = names + [of_masks[place] for place in spread_evenly(len(of_masks), _MOST_MEASURED)]
    try:
        found = evaluate_gn(
            bank.path, asked, samples=1, groups=_GROUPS, device=device, data_dir=data_dir, progress=progress
        )
    except UsageError as error:
        progress.remark(f"which task images are taken for is not measured: {error}")
        return measured
    records = [
        FoundRecord(
            task=one.task,
            samples=sum(one.counts.values()),
            right=round(one.task_accuracy, 6),
            counts=tuple(sorted(one.counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_CONFUSED]),
        )
        for one in sorted(found, key=lambda one: _natural(one.task))
    ]
    return msgspec.structs.replace(
        measured, found=tuple(records), candidates=len(candidates), method=found[0].method if found else ""
    )


def _natural(task: str) -> str:
    from impress_format.tasks.snapshot import natural_order

    return natural_order(task)
