"""The paper's Table 2 by its own formula, beside what this project stores for the same rows. Arithmetic alone.

What is said of printed rows is second-hand: noted by who had the paper at hand, its numbers not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from impress_format.container.codec import entropy_bytes
from impress_format.errors import UsageError
from impress_format.limits import MAX_INTEGER

DENSITY = 0.125
"""Density of all masks in the table."""
_INDEX_BITS = 16
_FLOAT = 4
_KIB = 1024
_TASK_RECORD = 66
"""Bytes of a task in a large pack beside its coefficients: names, accuracies, digest (docs/results/scale.md)."""
_SCALE = 2
"""Bytes of a layer's int8 coefficients beside the coefficients."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A basis and its tasks, stored in one way.

    Attributes:
        tasks: that share the basis.
        mask_kb: KiB of a mask.
        phi_kb: KiB a task: its share of the basis, and its coefficients.
        savings: how many times less than a mask for each task, stored the same way.
        savings_bitmap: how many times less than a bitmap for each task.
    """

    tasks: int
    mask_kb: float
    phi_kb: float
    savings: float
    savings_bitmap: float


@dataclass(frozen=True, kw_only=True)
class Table2Row:
    """One row.

    Attributes:
        params: weights that masks choose among.
        masks: M, in the basis.
        layers: with coefficients of their own.
        alpha: coefficients of a task, M x layers.
        paper: 16 bits for each of the 12.5 % that a mask keeps, coefficients of 4 bytes.
        here: masks at the entropy of independent bits, coefficients of one byte, tasks in packs.
        as_run: as `here`, for as many tasks as were run; None where that is the same.
        remark: where the printed row does not follow from the formula; None where nothing is known of it.
    """

    dataset: str
    model: str
    params: int
    masks: int
    layers: int
    alpha: int
    paper: Stored
    here: Stored
    as_run: Stored | None
    remark: str | None


@dataclass(frozen=True, kw_only=True)
class _Setting:
    dataset: str
    model: str
    params: int
    layers: int
    masks: int
    tasks: int
    run: int | None = None
    remark: str | None = None


def _imagenet(model: str, params: int, layers: int, remark: str) -> _Setting:
    """100 masks for 2,100 tasks, where ImageNet has 100."""
    return _Setting(
        dataset="SplitImageNet",
        model=model,
        params=params,
        layers=layers,
        masks=100,
        tasks=2_100,
        run=100,
        remark=remark,
    )


_PLAIN = "printed as wide, but so many weights has the plain one"
_SETTINGS = (
    _Setting(
        dataset="RotatedMNIST",
        model="LeNet-300-100",
        params=266_200,
        layers=3,
        masks=50,
        tasks=360,
        remark="16 bits cannot index a layer of 235,200 weights",
    ),
    _Setting(
        dataset="PermutedMNIST",
        model="LeNet-300-100",
        params=266_200,
        layers=3,
        masks=250,
        tasks=1_000,
        remark="the printed phi leaves the masks out: it is that of endlessly many tasks",
    ),
    _Setting(
        dataset="SplitCIFAR-100",
        model="ResNet-18, narrow",
        params=6_200_000,
        layers=21,
        masks=10,
        tasks=20,
        remark="printed as 1.99 x; a bitmap of each mask is half of what is counted",
    ),
    _imagenet("ResNet-18", 11_678_912, 21, _PLAIN),
    _imagenet("ResNet-34", 21_779_648, 37, _PLAIN),
    _imagenet("ResNet-50", 25_502_912, 54, "printed without its classifier, with 53 layers"),
    _imagenet("ResNet-101", 44_442_816, 105, "printed without its classifier, with 104 layers"),
    _imagenet("pre-ResNet-200", 64_500_000, 204, "the printed phi and savings are those of 75 masks"),
)


def table2(tasks: int | None = None) -> Sequence[Table2Row]:
    """All rows.

    Args:
        tasks: that share each basis; None for what each data set has.

    Raises:
        UsageError: fewer than one task, or too many.

    Examples:
        >>> row = table2()[2]
        >>> row.dataset, round(row.paper.phi_kb), round(row.paper.savings, 1)
        ('SplitCIFAR-100', 758, 2.0)
    """
    if tasks is not None and not 1 <= tasks <= MAX_INTEGER:
        raise UsageError(f"`total_tasks` {tasks}: expected 1 to {MAX_INTEGER:,}")
    return tuple(_row(setting, tasks) for setting in _SETTINGS)


def _row(setting: _Setting, tasks: int | None) -> Table2Row:
    alpha = setting.masks * setting.layers
    ones = round(DENSITY * setting.params)
    compressed = entropy_bytes(setting.params, ones)
    packed = alpha + _SCALE * setting.layers + _TASK_RECORD
    shared = tasks or setting.tasks
    run = setting.run if tasks is None else None
    return Table2Row(
        dataset=setting.dataset,
        model=setting.model,
        params=setting.params,
        masks=setting.masks,
        layers=setting.layers,
        alpha=alpha,
        paper=_stored(setting, shared, _INDEX_BITS / 8 * DENSITY * setting.params, _FLOAT * alpha),
        here=_stored(setting, shared, compressed, packed),
        as_run=None if run is None else _stored(setting, run, compressed, packed),
        remark=setting.remark,
    )


def _stored(setting: _Setting, tasks: int, mask_bytes: float, task_bytes: float) -> Stored:
    phi = setting.masks * mask_bytes / tasks + task_bytes
    return Stored(
        tasks=tasks,
        mask_kb=mask_bytes / _KIB,
        phi_kb=phi / _KIB,
        savings=mask_bytes / phi,
        savings_bitmap=setting.params / 8 / phi,
    )
