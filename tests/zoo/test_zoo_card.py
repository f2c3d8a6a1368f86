"""Model cards: front matter that the Hub reads, and numbers that are the bank's."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
import small_bank
from commandline import run

from impress_cli.rebuilding import rebuilding_commands
from impress_format.bank import Bank, open_bank
from impress_format.errors import UsageError
from impress_format.operations.create import extend_plan
from impress_format.operations.stats import measure_storage
from impress_format.parts.head import store_head
from impress_format.parts.own_mask import store_own_mask
from impress_format.parts.residual import store_residual
from impress_format.parts.table import stored_parts
from impress_format.tasks.record import TaskRecord
from impress_format.zoo.card import model_card
from impress_format.zoo.card_summary import read_card
from impress_format.zoo.entry import bank_digest
from impress_format.zoo.push import prepare


def front_matter(card: str) -> dict[str, object]:
    """Read as the Hub does, by its own library."""
    from huggingface_hub import ModelCard

    return dict(ModelCard(card).data.to_dict())  # type: ignore[no-untyped-call]


def test_the_front_matter_is_what_the_hub_expects(bank: Path) -> None:
    data = front_matter(model_card(bank, "tiny"))
    assert data["library_name"] == "impress"
    assert data["pipeline_tag"] == "image-classification"
    assert data["license"] == "apache-2.0"
    assert {"impress", "supermask", "rotated-digits", "lenet-300-100"} <= set(data["tags"])  # type: ignore[call-overload]


def test_the_front_matter_names_the_data_sets_that_the_hub_has(bank: Path, tmp_path: Path) -> None:
    assert "datasets" not in front_matter(model_card(bank, "tiny"))
    data = front_matter(model_card(bank, "tiny", data_sets={"rotated-digits": "owner/digits", "rotated-mnist": "no"}))
    assert data["datasets"] == ["owner/digits"]
    known = Path(__file__).parents[2] / "zoo" / "mnist-rotated.impress"
    assert run("zoo", "push", known, "--zoo", tmp_path / "zoo", cwd=tmp_path).code == 0
    assert front_matter((tmp_path / "zoo" / "mnist-rotated.md").read_text())["datasets"] == ["ylecun/mnist"]


def test_numbers_are_those_of_the_bank(bank: Path) -> None:
    card = model_card(bank, "tiny")
    storage = measure_storage(open_bank(bank))
    assert f"{storage.bytes.total:,} bytes on disk" in card
    assert f"{storage.alternatives.compressed:,.0f}" in card
    assert "mean 90.0 %" in card  # small_bank stores 0.9 twice
    assert bank_digest(bank) in card
    sizes = [path.stat().st_size for path in sorted((bank / "masks").iterdir())]
    assert [
        int(row.replace(",", "")) for row in re.findall(r"^\| \d+ \|.*?\| ([\d,]+) \| [^|]*\|$", card, re.M)
    ] == sizes


def _card(bank: Path, name: str = "tiny") -> str:
    """As `impress zoo push` makes it."""
    return model_card(bank, name, rebuild=rebuilding_commands)


def test_without_a_command_line_a_card_has_no_commands(bank: Path) -> None:
    assert "## Rebuild" not in model_card(bank, "tiny")
    assert model_card(bank, "tiny", rebuild=lambda bank, tasks, name: [f"make {name}"]) == _card(bank).replace(
        "\n".join(rebuilding_commands(open_bank(bank), _records(bank), "tiny")), "make tiny"
    )


def _records(bank: Path) -> list[TaskRecord]:
    opened = open_bank(bank)
    return [opened.read_task_record(name) for name in opened.task_names()]


def test_it_has_every_part(bank: Path) -> None:
    headings = re.findall(r"^## (.+)$", _card(bank), re.M)
    assert headings == ["Intended use", "Masks", "Accuracy", "Storage", "Limits", "Rebuild", "Digest"]


def test_the_command_is_the_one_given_or_one_derived(bank: Path) -> None:
    assert "impress bank create tiny.impress rotated-digits/0 rotated-digits/90" in _card(bank)
    assert "impress task add tiny.impress rotated-digits/1 --epochs 3" in _card(bank)
    given = model_card(bank, "tiny", command="impress bank create x.impress rotated-digits/1\n")
    assert "```\nimpress bank create x.impress rotated-digits/1\n```" in given


def test_the_derived_commands_name_every_part_of_a_task(bank: Path) -> None:
    opened = open_bank(bank)
    start = opened.read_task_record("one")
    fit = msgspec.structs.replace(small_bank.known(start.fit), start=start.digest)
    record = msgspec.structs.replace(start, name="a-first-name", task="rotated-digits/3", fit=fit)
    own = store_own_mask(np.ones(small_bank.LAYERS[-1].shape, dtype=np.bool_))
    opened.write_task(record, stored_parts(alpha=small_bank.ALPHA[:, :1], mask=own))
    lines = _card(bank).splitlines()
    (warm,) = (line for line in lines if "--warm-start one" in line)
    assert "rotated-digits/3" in warm
    assert "--hybrid" in warm
    assert lines.index(warm) > next(place for place, line in enumerate(lines) if "rotated-digits/1 " in line)


def test_no_command_is_derived_for_a_dataset_in_memory_or_what_begins_from_one(bank: Path) -> None:
    opened = open_bank(bank)
    first = msgspec.structs.replace(opened.read_task_record("one"), name="mine", task="dataset:mine")
    alpha = stored_parts(alpha=small_bank.ALPHA)
    opened.write_task(first, alpha)
    for name, start in (("next", "mine"), ("last", "next")):
        fit = msgspec.structs.replace(small_bank.known(first.fit), start=opened.read_task_record(start).digest)
        opened.write_task(msgspec.structs.replace(first, name=name, task=f"rotated-digits/{len(name)}", fit=fit), alpha)
    lines = _card(bank).splitlines()
    assert "# mine was learned from a torch Dataset in Python (add_dataset), whose images are not stored" in lines
    assert "# next begins from mine, which no command here makes" in lines
    assert "# last begins from next, which no command here makes" in lines
    added = [line for line in lines if line.startswith("impress task add")]
    assert added
    assert not any(words in line for line in added for words in ("dataset", "mine", "rotated-digits/4"))


HEAD = store_head(np.zeros((3, 4), dtype=np.uint8), np.ones(3, dtype=np.float16), np.zeros(3, dtype=np.float16), 2)


@pytest.fixture
def photos(tmp_path: Path) -> Bank:
    """A bank over pretrained weights, moved towards two tasks in three epochs, with a task of a head."""
    weights = msgspec.structs.replace(small_bank.THEIRS, licence="MIT", origin="https://example.org/<some>")
    bank = small_bank.over_weights(tmp_path / "photos.impress", weights, small_bank.moved_projection())
    record = small_bank.task_record(bank, "one", "rotated-digits/3", masks=0)
    record = msgspec.structs.replace(
        record, basis=bank.basis_digest(0, True), settings=small_bank.settings(head_bits=2)
    )
    bank.write_task(record, stored_parts(head=HEAD))
    return bank


def test_over_pretrained_weights_it_says_whose_they_are_and_how_to_get_them(photos: Bank) -> None:
    card = model_card(photos.path, "photos")
    assert re.findall(r"^## (.+)$", card, re.M)[:3] == ["Intended use", "Weights", "Accuracy"]
    assert {"supermask", "random-network"}.isdisjoint(front_matter(card)["tags"])  # type: ignore[arg-type]
    assert "Licence: MIT." in card
    assert f"1 tensors, id `{small_bank.THEIRS.identity}`" in card
    assert "had from https://example.org/&lt;some>. Give that file once" in card
    assert "impress weights add some.safetensors" in card
    assert "heads of 3 classes" in read_card(card).description
    assert "| one float32 last layer each | 72 |" in card
    assert "random network" not in card
    assert "begins with how their file is made" not in card
    made = "impress weights convert a.pth some.safetensors\nimpress bank create photos.impress rotated-digits/0"
    assert "begins with how their file is made" in model_card(photos.path, "photos", command=made)


def test_the_derived_commands_make_network_projection_and_heads_again(photos: Bank) -> None:
    lines = _card(photos.path, "photos").splitlines()
    (create,) = (line for line in lines if line.startswith("impress bank create"))
    assert create.startswith("impress bank create photos.impress rotated-digits/0 rotated-digits/9 --backbone")
    for words in ("--weights some.safetensors", "--adapt 3", "--masks-per-task 0", "--holdout 0.25"):
        assert words in create
    (add,) = (line for line in lines if line.startswith("impress task add photos.impress rotated-digits/3"))
    assert "--head" not in add  # as many dimensions as the projection has, the most


def test_masks_that_were_added_later_are_added_later_again(tmp_path: Path) -> None:
    """Of a bank that was made for heads of some tasks, and extended by masks of another."""
    bank = small_bank.over_weights(tmp_path / "a.impress", projection=small_bank.moved_projection())
    extend_plan(bank, [small_bank.plan("rotated-digits/100", 5)])
    bank = open_bank(bank.path)
    bank.write_mask(0, small_bank.mask(1), 0.5)
    record = small_bank.task_record(bank, "alone", "rotated-digits/3", masks=0)
    residual = store_residual(np.zeros(8, dtype=np.uint8), np.ones(2, dtype=np.float16), 1)
    bank.write_task(
        msgspec.structs.replace(record, settings=small_bank.settings(residual_bits=1)), stored_parts(residual=residual)
    )
    rebuild = _card(bank.path, "a").partition("## Rebuild")[2]
    create, extend, add = (line for line in rebuild.splitlines() if line.startswith("impress "))
    assert "create a.impress rotated-digits/0 rotated-digits/9 " in create
    assert "--masks-per-task 0 --holdout 0.25" in create
    assert extend.startswith("impress bank extend a.impress rotated-digits/100 ")
    assert "--masks-per-task" not in extend
    assert "--head 0 --no-alpha --residual 8" in add


def test_weights_of_the_hub_are_its_base_model(tmp_path: Path) -> None:
    weights = msgspec.structs.replace(small_bank.THEIRS, source="hf-hub:a/b")
    card = model_card(small_bank.over_weights(tmp_path / "a.impress", weights).path, "a")
    assert front_matter(card)["base_model"] == "a/b"
    assert "downloaded when they are needed" in card


def test_what_a_file_of_weights_says_of_itself_is_no_markup(tmp_path: Path) -> None:
    weights = msgspec.structs.replace(
        small_bank.THEIRS, source="file:-rf.safetensors", origin="![x](https://example.org/x.png) `code"
    )
    card = model_card(small_bank.over_weights(tmp_path / "a.impress", weights).path, "a")
    assert r"!\[x\](https://example.org/x.png) \`code" in card
    assert "impress weights add ./-rf.safetensors" in card


def test_texts_of_a_bank_cannot_break_out_of_the_card(bank: Path) -> None:
    card = model_card(bank, "tiny", title="A | <b>title", description="one\n\n# two")
    assert "# A \\| &lt;b>title" in card
    assert read_card(card).description == "one # two"


@pytest.mark.parametrize(("text", "words"), [("# Title", "front matter"), ("---\na: b\n---\ntext", "a title")])
def test_a_card_without_front_matter_or_title_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_card(text)


def test_tags_are_read_in_both_ways_of_writing() -> None:
    for tags in ("tags:\n- one\n- 'two'", 'tags: [one, "two"]'):
        assert read_card(f"---\nlicense: mit\n{tags}\n---\n# T\n\nText.").tags == ("one", "two")


def test_a_card_of_ones_own_is_taken_as_it_is(bank: Path, tmp_path: Path) -> None:
    path = tmp_path / "card.md"
    path.write_text("---\nlibrary_name: impress\ntags: [mine]\n---\n# Mine\n\nWhat it\nis.\n")
    prepared = prepare(bank, "other", card=path)
    assert prepared.card == path.read_text()
    assert (prepared.entry.title, prepared.entry.description, prepared.entry.tags) == ("Mine", "What it is.", ("mine",))
