"""`impress task export` and `impress task import`."""

from __future__ import annotations

import shutil
from pathlib import Path

from commandline import Impress


def test_a_task_travels_to_a_copy_of_the_bank_and_back(impress: Impress, bank: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bank, tmp_path / "other.impress"))
    assert impress("task", "remove", other, "rotated-digits/60").code == 0
    file = tmp_path / "sixty.safetensors"
    sent = impress("task", "export", bank, "rotated-digits/60", file, "--json").json
    assert sent == {
        "file": str(file),
        "task": "rotated-digits/60",
        "name": "rotated-digits-60",
        "bytes": file.stat().st_size,
    }
    assert file.read_bytes() == (bank / "tasks/rotated-digits-60.safetensors").read_bytes()
    (stored,) = impress("task", "import", other, file, "--json").json["tasks"]
    assert (stored["name"], stored["bytes"]) == ("rotated-digits-60", file.stat().st_size)
    same = [impress("eval", one, "rotated-digits-60", "--json").json["mean_accuracy"] for one in (bank, other)]
    assert same[0] == same[1]
    assert impress("bank", "verify", other).code == 0


def test_what_does_not_fit_is_named_and_nothing_is_stored(impress: Impress, bank: Path, tmp_path: Path) -> None:
    good, bad, foreign = (tmp_path / f"{name}.safetensors" for name in ("good", "bad", "foreign"))
    assert impress("task", "export", bank, "rotated-digits-60", good).code == 0
    bad.write_bytes(good.read_bytes()[:-1])
    elsewhere = tmp_path / "elsewhere.impress"
    assert impress("bank", "create", elsewhere, "rotated-digits/0", "--random-masks", 1, "--epochs", 1).code == 0
    assert impress("task", "add", elsewhere, "rotated-digits/5", "--epochs", 1).code == 0
    assert impress("task", "export", elsewhere, "rotated-digits/5", foreign).code == 0
    names = impress("task", "list", bank, "--json").json
    for files, code, words in (
        ((bad,), 1, "bad.safetensors"),
        ((foreign,), 1, "belongs to another bank"),
        ((tmp_path / "none",), 1, "none"),
        ((good, good, "--name", "x"), 2, "--name x is one name for 2 files"),
        ((good, "--name", ".."), 2, "invalid task name"),
    ):
        done = impress("task", "import", bank, *files)
        assert (done.code, words in done.err) == (code, True), done.err
    assert impress("task", "import", bank, foreign, good, "--quiet").code == 1
    assert impress("task", "list", bank, "--json").json == names
    assert "already" in impress("task", "export", bank, "rotated-digits-180", good).err
    assert impress("task", "import", bank, good, "--name", "again").code == 0
    assert impress("task", "import", bank, good, "--name", "rotated-digits-180").code == 2
