"""`--reproducible`: the same bits on every x86-64 machine, held to a golden mask that several machines gave."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import torch

from impress_format import open_bank
from impress_format.errors import BankMismatch, UsageError
from impress_learn.jobs import add_tasks, create_bank
from impress_learn.plan.asked import Masks
from impress_learn.progress import Progress
from impress_learn.running.device import Workers
from impress_learn.running.same_bits import VARIABLES, check_instructions, choose_learning_device, pin_instructions
from impress_learn.training.config import MaskTraining, TaskTraining

GOLDEN_MASK = "c6789122d54bbbfaf77cad40d8a6256a"
"""Of `bank create rotated-digits/0 --epochs 4`: an Intel processor with AMX under torch 2.14.1, an AMD one with AVX-512
under 2.6.0 and 2.14.1."""


def runs_here() -> bool:
    """Whether torch, held to AVX2, says that it is: an x86-64 processor that has it."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return False
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    return fresh(code, VARIABLES).stdout.strip() == "AVX2"


def fresh(code: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a process that has not imported torch."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | dict(variables or {})
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_mask_is_that_which_other_machines_gave(tmp_path: Path, threads: int) -> None:
    """In any number of threads; a command that adds a task to it finds torch held to the same instructions."""
    if not runs_here():
        pytest.skip("no x86-64 processor with AVX2")
    path = tmp_path / "a.impress"
    done = fresh(f"""
from impress_learn import MaskTraining, create_bank
create_bank({str(path)!r}, ["rotated-digits/0"], fit=MaskTraining(epochs=4, threads={threads}), reproducible=True)
""")
    assert done.returncode == 0, done.stderr
    done = fresh(f"""
import sys
from impress_learn import TaskTraining, add_tasks
assert "torch" not in sys.modules
add_tasks({str(path)!r}, ["rotated-digits/30"], fit=TaskTraining(epochs=1))
assert sys.modules["torch"].backends.cpu.get_cpu_capability() == "AVX2"
""")
    assert done.returncode == 0, done.stderr
    bank = open_bank(path)
    assert bank.manifest.made_with is not None
    assert bank.manifest.made_with.instructions == "avx2"
    assert bank.read_mask(0)[0].bits == GOLDEN_MASK


def test_it_is_asked_for_before_torch_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"settled before torch is imported.*ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMP"):
        create_bank(tmp_path / "a.impress", ["rotated-digits/0"], reproducible=True)
    assert not (tmp_path / "a.impress").exists()


def test_another_processor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(UsageError, match="AVX2, which x86-64 processors have; this one is aarch64"):
        pin_instructions()


@pytest.mark.parametrize(
    ("workers", "device", "capability", "why"),
    [
        (Workers(1), "meta", "AVX2", "leave out `device` meta"),
        (Workers(1, engine="ray"), "cpu", "AVX2", "leave out `engine` ray"),
        (Workers(1), "cpu", "DEFAULT", "torch with DEFAULT here"),
    ],
)
def test_what_would_give_other_bits_is_refused(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, device: str, capability: str, why: str
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    check_instructions(None, workers, torch.device(device))
    with pytest.raises(UsageError, match=why):
        check_instructions("avx2", workers, torch.device(device))


def test_who_adds_to_such_a_bank_in_another_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.impress"
    masks = Masks(masks_per_task=0, random_masks=2)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    create_bank(path, ["rotated-digits/0"], masks=masks, reproducible=True)
    told: list[str] = []
    heard = Progress(remark=told.append)
    add_tasks(path, ["rotated-digits/30"], fit=TaskTraining(epochs=1), progress=heard)
    assert told == []
    monkeypatch.delenv("MKL_CBWR")
    add_tasks(path, ["rotated-digits/60"], fit=TaskTraining(epochs=1), progress=heard)
    assert told == [remark for remark in told if "came out the same on every machine" in remark]
    assert len(told) == 1


def test_a_bank_of_one_machine_does_not_become_one_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.impress"
    create_bank(path, ["rotated-digits/0"], fit=MaskTraining(epochs=1))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(BankMismatch, match="those of one machine"):
        create_bank(path, ["rotated-digits/0"], fit=MaskTraining(epochs=1), reproducible=True)


@pytest.mark.parametrize(
    ("device", "engine", "said"),
    [
        ("cpu", "local", None),
        ("meta", "local", "learned on meta need not"),
        ("cpu", "ray", "learned by workers of a cluster need not"),
    ],
)
def test_what_is_learned_elsewhere_is_told(
    tmp_path: Path, device: str, engine: Literal["local", "ray"], said: str | None
) -> None:
    bank = create_bank(tmp_path / "a.impress", ["rotated-digits/0"], masks=Masks(masks_per_task=0, random_masks=1))
    told: list[str] = []
    choose_learning_device(bank, device, Progress(remark=told.append), engine=engine)
    assert told == []
    assert bank.manifest.made_with is not None
    made_with = msgspec.structs.replace(bank.manifest.made_with, instructions="avx2")
    held = replace(bank, manifest=msgspec.structs.replace(bank.manifest, made_with=made_with))
    chosen = choose_learning_device(held, device, Progress(remark=told.append), engine=engine)
    assert chosen == torch.device(device)
    assert [one.endswith(said or "") for one in told] == ([] if said is None else [True])
