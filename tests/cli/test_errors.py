"""Bad input: a clear message on stderr, the right exit status, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_bank
from commandline import CREATE, Impress, Result, contents


def refused(result: Result, code: int, *words: str) -> None:
    """The command ended with `code`, said all `words`, printed no result and no traceback."""
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) <= 3 or "Usage" in result.err
    for word in words:
        assert word in result.err


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("rotated-digit/3", ("rotated-digit", "did you mean rotated-digits")),
        ("nothing/3", ("unknown stream", "rotated-digits")),
        ("rotated-digits", ("STREAM/KEY",)),
        ("rotated-digits/360", ("360", "0..359")),
        ("rotated-digits/-5", ("-5",)),
        ("rotated-digits/x", ("x",)),
        ("rotated-digits/5:5", ("no task",)),
        ("rotated-digits/0:10:0", ("STEP",)),
        ("rotated-digits/../../etc", ("../..",)),
    ],
)
def test_an_unknown_stream_or_key_is_wrong_use(impress: Impress, bank: Path, reference: str, words: tuple[str]) -> None:
    before = contents(bank)
    refused(impress("task", "add", bank, reference), 2, *words)
    refused(impress("bank", "create", "new.impress", reference), 2, *words)
    assert contents(bank) == before
    assert not Path(bank.parent / "new.impress").exists()


@pytest.mark.parametrize("density", ["0", "-0.1", "1.5", "nan", "inf"])
def test_a_density_outside_0_to_1_is_wrong_use(impress: Impress, tmp_path: Path, density: str) -> None:
    refused(impress("bank", "create", "new.impress", "rotated-digits/0", "--density", density), 2, "--density")
    assert not (tmp_path / "new.impress").exists()


@pytest.mark.parametrize(
    "option",
    [("--lr", "nan"), ("--lr", "0"), ("--epochs", "0"), ("--batch-size", "0"), ("--holdout", "1"), ("--seed", "-1"),
     ("--masks-per-task", "-1"), ("--random-masks", "-1")],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_wrong_use(impress: Impress, tmp_path: Path, option: tuple[str, str]) -> None:
    refused(impress("bank", "create", "new.impress", "rotated-digits/0", *option), 2, option[0])
    assert not (tmp_path / "new.impress").exists()


@pytest.mark.parametrize("command", [("bank", "show"), ("bank", "verify"), ("stats",), ("eval",), ("task", "list")])
def test_a_bank_path_that_is_missing_or_a_file_is_wrong_use(
    impress: Impress, tmp_path: Path, command: tuple[str, ...]
) -> None:
    refused(impress(*command, "nowhere.impress"), 2, "nowhere.impress", "bank create")
    (tmp_path / "file.impress").write_text("precious")
    refused(impress(*command, "file.impress"), 2, "file.impress is a file")
    assert (tmp_path / "file.impress").read_text() == "precious"


def test_creating_over_a_file_or_a_foreign_folder_touches_neither(impress: Impress, tmp_path: Path) -> None:
    (tmp_path / "file.impress").write_text("precious")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_text("precious")
    refused(impress("bank", "create", "file.impress", "rotated-digits/0"), 2, "is a file")
    refused(impress("bank", "create", "photos", "rotated-digits/0"), 2, "other files")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["me.png"]


def test_a_bank_of_a_newer_format_is_refused_with_both_versions(impress: Impress, bank: Path) -> None:
    manifest = json.loads((bank / "bank.json").read_text())
    (bank / "bank.json").write_text(json.dumps({**manifest, "format_version": 99, "novelty": True}))
    for command in (("bank", "show"), ("eval",), ("stats",)):
        refused(impress(*command, bank), 1, "99", "upgrade")
    assert impress("bank", "verify", bank).code == 1


def test_creating_with_other_settings_over_a_bank_is_refused_and_keeps_it(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    refused(impress("bank", "create", bank, *CREATE, "--density", 0.3), 2, "density", "0.1", "0.3")
    refused(impress("bank", "create", bank, *CREATE, "--seed", 5), 2, "seed")
    assert contents(bank) == before


def test_a_stream_of_more_classes_is_refused(impress: Impress, bank: Path) -> None:
    from impress_format.bank import open_bank
    from impress_format.operations.create import write_plan
    from impress_format.records.network import BackboneSpec, LayerSpec
    from impress_format.weights import backbone_digest

    layers = (LayerSpec(name="fc.weight", shape=(5, 12)),)
    spec = BackboneSpec(
        arch="lenet-300-100", init="signed-constant", seed=0, input_shape=(3, 2, 2), classes=5, layers=layers,
        digest=backbone_digest(0, "signed-constant", layers),
    )  # fmt: skip
    manifest = small_bank.plan_of(spec, open_bank(bank).manifest.masks)
    other = write_plan(bank.parent / "other.impress", manifest)
    refused(impress("task", "add", other.path, "rotated-digits/1"), 2, "rotated-digits/1", "10 classes", "5 outputs")
    refused(impress("bank", "extend", other.path, "rotated-digits/1"), 2, "10 classes", "5 outputs")


def test_a_task_that_exists_is_refused_and_kept(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    refused(impress("task", "add", bank, "rotated-digits/60", "--epochs", 6), 2, "rotated-digits-60", "already")
    refused(impress("task", "add", bank, "rotated-digits/60:62", "--lr", 0.5), 2, "rotated-digits-60", "already")
    assert contents(bank) == before


def test_an_unknown_task_is_wrong_use_and_the_known_ones_are_named(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    refused(impress("eval", bank, "no-such"), 2, "no-such", "rotated-digits-60")
    refused(impress("task", "remove", bank, "rotated-digits-60", "no-such"), 2, "no-such")
    refused(impress("task", "show", bank, "../bank"), 2, "../bank")
    assert contents(bank) == before


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "x" * 101, "a b"])
def test_a_name_that_could_leave_the_folder_is_wrong_use(impress: Impress, bank: Path, name: str) -> None:
    before = contents(bank.parent)
    refused(impress("task", "add", bank, "rotated-digits/3", "--name", name), 2, "task name")
    assert contents(bank.parent) == before


def test_missing_data_without_network_says_where_to_put_it(impress: Impress, tmp_path: Path) -> None:
    no_network = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    arguments = ("bank", "create", "new.impress", "rotated-mnist/0", "--data-dir", "empty")
    result = impress(*arguments, env=no_network)
    assert result.code == 1
    assert "Traceback" not in result.err
    for word in ("MNIST", "empty", "--data-dir", "rotated-digits"):
        assert word in result.err


def test_a_diverging_fit_stops_with_step_and_advice_and_stores_nothing(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    result = impress("task", "add", bank, "rotated-digits/3", "--lr", 1e30)
    refused(result, 1, "step", "--lr", "rotated-digits-3")
    assert contents(bank) == before


def test_a_folder_that_cannot_be_written_fails_and_leaves_nothing(impress: Impress, tmp_path: Path) -> None:
    refused(impress("bank", "create", "/proc/new.impress", "rotated-digits/0"), 1, "/proc/new.impress")


def test_a_damaged_mask_stops_eval_naming_the_file(impress: Impress, bank: Path) -> None:
    mask = bank / "masks" / "00002.safetensors"
    mask.write_bytes(mask.read_bytes()[:-100])
    refused(impress("eval", bank), 1, "00002.safetensors")


def test_an_incomplete_bank_takes_no_task_but_can_be_shown(impress: Impress, bank: Path) -> None:
    (bank / "masks" / "00001.safetensors").unlink()
    refused(impress("task", "add", bank, "rotated-digits/3"), 2, "2 of its 3 masks", "bank create")
    shown = impress("bank", "show", bank, "--json").json
    assert [mask["bytes"] is None for mask in shown["masks"]] == [False, True, False]


def test_debug_shows_the_traceback(impress: Impress) -> None:
    assert "Traceback" in impress("bank", "show", "nowhere", "--debug").err


def test_wrong_flags_are_wrong_use(impress: Impress, bank: Path) -> None:
    assert impress("eval", bank, "--no-such-flag").code == 2
    assert impress("eval", bank, "--gg", "--wrong-mask").code == 2
    assert impress("bank").code == 2
    assert impress("eval", bank, "--device", "tpu").code == 2


def test_a_command_given_again_when_done_succeeds_and_prints_the_same(impress: Impress, bank: Path) -> None:
    before = contents(bank)
    command = ("task", "add", bank, "rotated-digits/60:360:120", "--epochs", 5, "--json")
    again = impress(*command)
    assert (again.code, "3 of 3 tasks are there already" in again.err) == (0, True)
    assert [task["name"] for task in again.json["tasks"]] == [f"rotated-digits-{key}" for key in (60, 180, 300)]
    assert contents(bank) == before


def test_an_empty_path_is_wrong_use_and_not_the_current_folder(impress: Impress) -> None:
    for command in (("bank", "show", ""), ("eval", ""), ("bank", "create", "", "rotated-digits/0")):
        done = impress(*command)
        assert (done.code, "is a variable not set?" in done.err) == (2, True)


def test_settings_are_named_as_options(impress: Impress, bank: Path) -> None:
    refused(impress("task", "add", bank, "rotated-digits/3", "--alpha-dtype", "float16", "--lr", 0), 2, "--lr 0.0")
    refused(impress("task", "add", bank, "rotated-digits/3", "--holdout", 0.1), 2, "--holdout 0.1", "mask 0")
    refused(impress("eval", bank, "--holdout", 0.1), 2, "--holdout 0.1", "was trained on all training images")
    refused(impress("stats", bank, "--total-tasks", 1), 2, "--total-tasks 1")


def test_without_a_home_and_a_name_the_embedded_data_work(bank: Path) -> None:
    """A container under a bare user number."""
    without = {name: text for name, text in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    script = (
        "import os, pwd, sys\n"
        "pwd.getpwuid = lambda number: (_ for _ in ()).throw(KeyError(number))\n"
        "from impress_cli.app import main\n"
        "sys.argv[0] = 'impress'\n"
        "main()\n"
    )
    for arguments in (["eval", str(bank)], ["doctor"], ["streams"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=without, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
