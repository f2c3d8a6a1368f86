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


def test_a_packet_carries_a_task_to_a_bank_that_never_saw_its_data(
    impress: Impress, bank: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(bank, tmp_path / "other.impress"))
    done = impress("task", "add", bank, "rotated-digits/50", "--packet", 51, "--name", "fifty", "--epochs", 1)
    assert "a packet of 51 bytes holds coefficients of 3 masks" in done.err
    packet, large = tmp_path / "sent.packet", tmp_path / "signed.packet"
    sent = impress("task", "export", bank, "fifty", packet, "--packet", 51, "--json").json
    assert 10 < sent.pop("bytes") == packet.stat().st_size <= 51
    assert sent == {
        "file": str(packet),
        "task": "rotated-digits/50",
        "name": "fifty",
        "parts": ["alpha", "residual"],
        "signature": True,
        "signed": False,
    }
    assert "Its signature does not fit" in impress("task", "export", bank, "fifty", packet, "--packet", 51).out
    assert impress("task", "export", bank, "fifty", large, "--packet", 140, "--json").json["signed"]
    (stored,) = impress("task", "import", other, packet, "--reference", "rotated-digits/50", "--json").json["tasks"]
    assert (stored["name"], stored["task"], stored["accuracy"]) == ("rotated-digits-50", "rotated-digits/50", None)
    assert "no signature came along" in impress("task", "import", other, packet, "--name", "again").err
    assert impress("task", "remove", other, "again").code == 0
    (nameless,) = impress("task", "import", other, large, "--json").json["tasks"]
    assert (nameless["name"], nameless["task"]) == ("signed", "dataset:signed")
    same = [
        impress("eval", one, name, "--json").json["mean_accuracy"]
        for one, name in ((bank, "fifty"), (other, "rotated-digits-50"))
    ]
    assert same[0] == same[1]
    assert impress("bank", "verify", other).code == 0
    assert impress("task", "show", other, "signed", "--json").json["fit"] is None
    assert "or came as a packet" in impress("eval", other, "signed").err
    measured = impress("eval", other, "--json")
    assert [one["name"] for one in measured.json["tasks"]].count("rotated-digits-50") == 1
    assert "signed: came as packets without a reference: not measured" in measured.err
    shown = impress("zoo", "push", other, "--zoo", tmp_path / "zoo", "--title", "t", "--description", "d")
    assert shown.code == 0, shown.err
    card = (tmp_path / "zoo" / "other.md").read_text()
    assert "# signed came as a packet (task import), which does not say how it was learned" in card
    assert "or came as packets" in card


def test_what_a_packet_is_not_for_is_said(impress: Impress, bank: Path, tmp_path: Path) -> None:
    packet, file, names = tmp_path / "p.packet", tmp_path / "t.safetensors", tmp_path / "names.txt"
    assert impress("task", "export", bank, "rotated-digits-60", packet, "--packet", 200).code == 0
    assert impress("task", "export", bank, "rotated-digits-60", file).code == 0
    names.write_text("\n".join(f"class {number}" for number in range(10)))
    before = impress("task", "list", bank, "--json").json
    for words, code, said in (
        (
            ("export", bank, "rotated-digits-60", tmp_path / "small", "--packet", 20),
            2,
            "--packet 20: rotated-digits-60 takes",
        ),
        (("import", bank, file, "--reference", "rotated-digits/1", "--name", "x"), 2, "is no packet"),
        (("import", bank, packet, "--class-names", "a"), 2, "--class-names a: expected names"),
        (("import", bank, packet, "--class-names", names, "--name", "x"), 1, "classes that have other names"),
        (("import", bank, packet, "--class-names", "a,b", "--name", "x"), 1, "other names than a, b"),
        (("import", bank, packet, "--reference", "nowhere/1"), 2, "nowhere"),
        (("import", bank, packet, "--name", ".."), 2, "invalid task name"),
        (("add", bank, "rotated-digits/51", "--packet", 200, "--bytes", 300), 2, "two sizes of a task"),
        (("add", bank, "rotated-digits/51", "--packet", 7), 2, "--packet 7: the smallest task"),
        (("add", bank, "rotated-digits/51", "--packet", 200, "--residual", 80), 2, "--packet chooses the parts"),
    ):
        done = impress("task", *words)
        assert (done.code, said in " ".join(done.err.split())) == (code, True), done.err
    assert impress("task", "list", bank, "--json").json == before
    numbers = ",".join(map(str, range(10)))  # what classes without names go by
    assert impress("task", "import", bank, packet, "--class-names", numbers, "--name", "told").code == 0
