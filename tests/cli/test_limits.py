"""Every number at its limit and beyond: wrong use is said before anything is begun, with the option and its limit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import pytest
from commandline import Impress, contents

from impress_cli.app import app

BEYOND = 1 << 53
HUGE = 10**30
FIT = {
    "--epochs": (0, BEYOND, HUGE), "--batch-size": (0, BEYOND, HUGE), "--warmup": (-1, BEYOND, HUGE),
    "--seed": (-1, BEYOND, HUGE), "--lr": (0, "nan", "inf"), "--weight-decay": (-1, "nan", "inf"),
    "--holdout": (-0.1, 1, "nan"), "--threads": (0, -1, 1_025, HUGE),
}  # fmt: skip
SPREAD = {"--workers": (-1, 0, 1_025, HUGE), "--gpus-per-worker": (-1, 1.5, "nan", "inf")}
MASKS = {"--masks-per-task": (-1, 100_001, 200_000, HUGE), "--random-masks": (-1, 100_000, 200_000, HUGE),
         "--density": (0, 1.1, "nan"), **SPREAD}  # fmt: skip
SAID_ONCE = ("--seed",)
"""Options whose limit is looked at in one place for all commands."""
COMMANDS: Mapping[str, Mapping[str, Sequence[object]]] = {
    # command: numbers that each of its options refuses
    "bank create new.impress rotated-digits/0": {
        **FIT, **MASKS, "--image-size": (0, -1, 2_364, 2_365, HUGE), "--adapt": (-1, HUGE),
    },
    "bank extend BANK rotated-digits/90": {**FIT, **MASKS},
    "task add BANK rotated-digits/30": {
        **FIT, "--granularity": (0, (1 << 24) + 1, HUGE), "--residual": (-1, 3, BEYOND, HUGE),
        "--residual-layers": (0, 1, HUGE), "--residual-bits": (0, 3), "--head": (-1,), "--head-bits": (3,),
        "--norm": (-4, 3, HUGE), "--norm-layers": (0, -1, HUGE),
        "--bytes": (0, 1), "--packet": (0, 1), "--shots": (0, BEYOND, HUGE),
        "--l1": (-1, "nan", "inf"), **SPREAD,
    },
    "task export BANK rotated-digits-60 new.packet": {"--packet": (0, -1, 7)},
    "task update BANK rotated-digits-60 rotated-digits/65": {**FIT, "--shots": (0, BEYOND, HUGE), "--l1": (-1,)},
    "task discover BANK rotated-digits/30": {
        "--lr": (0, "nan"),
        "--epochs": (0, BEYOND), "--seed": (-1, BEYOND), "--chunk": (1, 10_000, BEYOND, HUGE), "--images": (1, HUGE),
    },
    "eval BANK": {"--holdout": (-0.1, 1), "--seed": (-1, BEYOND)},
    "eval BANK --gn": {"--samples": (0, 10_000, HUGE), "--groups": (0, HUGE), "--holdout": (1,), "--seed": (BEYOND,)},
    "eval BANK --basis-gn": {"--samples": (0, 10_000, HUGE), "--epochs": (0, BEYOND)},
    "infer BANK image.png": {"--seed": (-1, BEYOND)},
    "report BANK new.html": {"--seed": (-1, BEYOND)},
    "reproduce figure-2": {"--seed": (-1, BEYOND), **SPREAD},
    "stats BANK": {"--total-tasks": (-1, 1, BEYOND, 10**400)},
}  # fmt: skip


def numeric_options() -> set[tuple[str, str]]:
    """Every option of every command that takes a number."""
    groups = [("", app), *((group.name, group.typer_instance) for group in app.registered_groups)]
    found = set()
    for name, group in groups:
        assert group is not None
        for registered in group.registered_commands:
            callback = registered.callback
            assert callback is not None
            command = f"{name} {registered.name or callback.__name__}".strip().rstrip("_")
            for parameter in inspect.signature(callback).parameters.values():
                kind, *rest = get_args(parameter.annotation)
                if {int, float} & {kind, *get_args(kind)}:
                    decls = rest[0].param_decls or (f"--{parameter.name.replace('_', '-')}",)
                    found.add((command, decls[0]))
    return found


def test_every_option_that_takes_a_number_is_tried() -> None:
    tried = {
        (re.split(r" BANK| new\.impress| figure-", command)[0], option)
        for command, options in COMMANDS.items()
        for option in options
    }
    assert len(numeric_options()) > 40
    assert {case for case in numeric_options() - tried if case[1] not in SAID_ONCE} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_number_beyond_its_limit_is_wrong_use_and_starts_nothing(
    command: str, impress: Impress, bank: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    arguments = [bank.name if word == "BANK" else word for word in command.split()]
    for option, values in COMMANDS[command].items():
        for value in values:
            ended = impress(*arguments, f"{option}={value}")
            case = f"{option}={value}: {ended.err}"
            assert ended.code == 2, case
            assert option in ended.err, case
            assert len(ended.err.strip().splitlines()) <= 3, case
            assert "Manifest" not in ended.err, case
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["bank create new.impress", "bank extend BANK"])
def test_slices_that_make_more_masks_than_a_bank_holds_are_wrong_use(
    command: str, impress: Impress, bank: Path
) -> None:
    arguments = [bank.name if word == "BANK" else word for word in command.split()]
    ended = impress(*arguments, "permuted-digits/0:60000", "--masks-per-task", 2)
    assert ended.code == 2
    said = " ".join(ended.err.split())
    assert "--masks-per-task 2 for 60,000 tasks" in said
    assert "expected at most 100,000" in said
    assert not (bank.parent / "new.impress").exists()


def test_a_full_bank_takes_no_more_masks(impress: Impress, bank: Path) -> None:
    """There are three; the last that fit are planned, and one more is refused."""
    ended = impress("bank", "extend", bank.name, "rotated-digits/90", "--random-masks", 99_997)
    assert (ended.code, "100,001 masks" in ended.err) == (2, True)
    assert len(impress("bank", "show", bank.name, "--json").json["masks"]) == 3
