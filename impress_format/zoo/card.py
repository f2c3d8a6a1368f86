"""Model cards: Markdown with the front matter the Hugging Face Hub reads, made from what a bank says of itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from impress_format.bank import Bank, open_bank
from impress_format.disk.files import file_size
from impress_format.operations.stats import measure_storage
from impress_format.parts.table import count_classes, reads_out
from impress_format.tasks.record import TaskRecord
from impress_format.zoo.entry import bank_digest
from impress_format.zoo.index import page_link

LICENSE = "apache-2.0"
Rebuild = Callable[[Bank, Sequence[TaskRecord], str], Sequence[str]]
"""A bank, the records of its tasks and the name it will have -> the lines that make it again."""
_WAYS = (
    ("index16", "SupSup, 16-bit indices"),
    ("bitmap", "SupSup, bitmap"),
    ("compressed", "SupSup, compressed as here"),
    ("full_model", "one float32 model each"),
    ("float_head", "one float32 last layer each"),
)


def model_card(
    folder: Path,
    name: str,
    *,
    title: str | None = None,
    description: str | None = None,
    license: str = LICENSE,  # noqa: A002  the word of the front matter
    command: str | None = None,
    data_sets: Mapping[str, str] | None = None,
    rebuild: Rebuild | None = None,
    page: bytes | None = None,
) -> str:
    """The card of the bank in `folder`; every number in it is stored in the bank or measured on its files.

    Args:
        command: what rebuilds the bank; otherwise `rebuild` derives it.
        rebuild: derives it from the masks and tasks the bank has; with neither the card does not say it.
        data_sets: streams whose data set has an entry on the Hub, and that entry.
        page: with pictures (HTML), that will stand beside the card.
    """
    bank = open_bank(folder)
    tasks = [bank.read_task_record(task) for task in bank.task_names()]
    front = _front_matter(bank, tasks, license, data_sets or {})
    sections = (
        f"# {_as_text(title or name)}",
        _as_text(description) if description else _summary(bank, tasks),
        *([] if page is None else [page_link(name, page)]),
        _use(bank, name),
        *([_weights(bank, command)] if bank.backbone.pretrained else []),
        *([_masks(bank)] if bank.manifest.masks else []),
        _accuracy(tasks),
        _savings(bank),
        _limits(bank),
        *_rebuild(bank, tasks, name, command, rebuild),
        f"## Digest\n\n`{bank_digest(folder)}`, the SHA-256 over the lines `PATH SHA256` of its files; "
        "`impress zoo verify` checks it.",
    )
    return front + "\n" + "\n\n".join(sections) + "\n"


def _front_matter(bank: Bank, tasks: Sequence[TaskRecord], license_name: str, data_sets: Mapping[str, str]) -> str:
    streams = _all_streams(bank, tasks)
    datasets = sorted({data_sets[stream] for stream in streams if stream in data_sets})
    pretrained = bank.backbone.pretrained
    arch = bank.backbone.arch.partition(":")[2] or bank.backbone.arch
    lines = ["---", "library_name: impress", f"license: {license_name}", "tags:"]
    lines += [f"- {tag}" for tag in dict.fromkeys((*_kinds(bank), _slug(arch), *map(_slug, streams)))]
    if datasets:
        lines += ["datasets:", *(f"- {dataset}" for dataset in datasets)]
    if pretrained and (model := _base_model(pretrained.source)):
        lines.append(f"base_model: {model}")
    return "\n".join([*lines, "pipeline_tag: image-classification", "---", ""])


def _kinds(bank: Bank) -> list[str]:
    """Tags of what it is."""
    pretrained = bank.backbone.pretrained is not None
    return [
        "impress",
        *(["supermask"] if bank.manifest.masks else []),
        "continual-learning",
        "transfer-learning" if pretrained else "random-network",
        "model-compression",
    ]


def _base_model(source: str) -> str | None:
    """The repository of the Hub that weights are from, where their source says so: timm's tags may be of any."""
    family, _, name = source.partition(":")
    return name if family == "hf-hub" else None


def _all_streams(bank: Bank, tasks: Sequence[TaskRecord]) -> list[str]:
    return _streams([plan.task for plan in bank.manifest.masks if plan.task] + [task.task for task in tasks])


def _summary(bank: Bank, tasks: Sequence[TaskRecord]) -> str:
    spec = bank.backbone
    streams = _all_streams(bank, tasks)
    if spec.pretrained:
        placed = [task for task in tasks if reads_out(bank.read_stored(task.name).values)]
        classes = sum(count_classes(bank.manifest, task.settings) for task in placed)
        weight_delta = bank.has_projection and bank.projection_record.epochs
        return (
            f"{len(tasks)} tasks over a pretrained {spec.arch.partition(':')[2]}"
            f"{', moved towards images like theirs' if weight_delta else ''}"
            f"{f': heads of {classes:,} classes' if classes else ''}. "
            f"Data: {', '.join(map(_as_text, streams)) or 'none'}. The pretrained weights are not in the bank."
        )
    return (
        f"A bank of {len(bank.manifest.masks)} binary supermasks over a frozen random {spec.arch} "
        f"({spec.weights:,} weights, drawn from seed {spec.seed}), with {len(tasks)} tasks stored as combinations of "
        f"them. Data: {', '.join(map(_as_text, streams)) or 'none, all masks are random'}."
    )


_OF_MASKS = """\
As a basis for new tasks of the same input shape and class count: each is learned as a few coefficients over these
masks."""
_OF_FEATURES = """\
To tell the classes of its tasks in images of one's own, and as a basis for new tasks of images like theirs: each is
learned as a small head, of any number of classes, over features that all tasks share."""


def _use(bank: Bank, name: str) -> str:
    features = bank.has_projection
    purpose, reference = (_OF_FEATURES, "folder:PATH") if features else (_OF_MASKS, "STREAM/KEY")
    then = f"infer {name}.impress IMAGE..." if features else f"eval {name}.impress"
    return f"""## Intended use

{purpose} For study of continual learning and of model compression; not checked for any other purpose.

```
impress zoo pull {name}
impress task add {name}.impress {reference}
impress {then}
```"""


def _weights(bank: Bank, command: str | None) -> str:
    theirs = bank.backbone.pretrained
    assert theirs is not None
    family, _, name = theirs.source.partition(":")
    found = f"`{theirs.address}`, {len(theirs.tensors):,} tensors, id `{theirs.identity}`"
    terms = f"Licence: {_as_text(theirs.licence)}." if theirs.licence else "Their licence is not recorded."
    if family == "file":
        where = f" They are had from {_as_text(theirs.origin)}." if theirs.origin else ""
        how = " Rebuild, below, begins with how their file is made." if "weights convert" in (command or "") else ""
        get = f"{where}{how} Give that file once:\n\n```\nimpress weights add {shlex.quote(_as_path(name))}\n```"
    else:
        get = " They are downloaded when they are needed, to the cache of huggingface_hub."
    return (
        f"## Weights\n\nThe network stands on weights that others trained: {found}. {terms} The bank holds the SHA-256 "
        f"of every tensor and none of the weights.{get}"
    )


def _masks(bank: Bank) -> str:
    rows = []
    for index, plan in enumerate(bank.manifest.masks):
        accuracy = bank.read_mask_record(index).accuracy
        size = file_size(bank.mask_path(index))
        rows.append((str(index), _as_text(plan.label), plan.sort, f"{plan.density:g}", f"{size:,}", _percent(accuracy)))
    table = _table(("mask", "trained on", "kind", "density", "bytes", "accuracy"), rows)
    return f"## Masks\n\n{table}\n\nAccuracy of a mask alone on its own task, as measured when it was stored."


def _accuracy(tasks: Sequence[TaskRecord]) -> str:
    if not tasks:
        return "## Accuracy\n\nNo task is stored yet."
    known = [task.accuracy for task in tasks if task.accuracy is not None]
    mean = sum(known) / len(known) if known else None
    unknown = (
        f"; {len(tasks) - len(known)} were made of images without labels, or came as packets"
        if len(known) < len(tasks)
        else ""
    )
    held_out = any(task.holdout > 0 for task in tasks)
    images = "held-out training images where the task was learned with some held out, else on test images"
    rows = [(_as_text(task.name), _as_text(task.task), _percent(task.accuracy)) for task in tasks[:50]]
    more = f"\n\nand {len(tasks) - 50} more." if len(tasks) > 50 else ""
    return (
        f"## Accuracy\n\nTask given at training and at inference (GG): mean {_percent(mean)} over {len(known)} stored "
        f"tasks, as measured when they were stored, on {images if held_out else 'test images'}{unknown}.\n\n"
        f"{_table(('task', 'reference', 'accuracy'), rows)}{more}\n\n"
        "With the task inferred (GN): not measured."
    )


def _savings(bank: Bank) -> str:
    storage = measure_storage(bank)
    other, savings = asdict(storage.alternatives), asdict(storage.savings) if storage.savings else {}
    rows = [
        (
            label,
            f"{other[way]:,.0f}",
            f"{savings[way]:.3g}" if savings else "—",
            str(storage.break_even_tasks[way] or "—"),
        )
        for way, label in _WAYS
        if other[way] is not None
    ]
    per_task = "" if storage.per_task_bytes is None else f"; one more task takes {storage.per_task_bytes:,.0f} bytes"
    table = _table(("each task stored as", "bytes a task", "times this bank", "bank is smaller from tasks"), rows)
    return (
        f"## Storage\n\n{storage.bytes.total:,} bytes on disk for {storage.tasks_served} tasks served{per_task}.\n\n"
        f"{table}\n\nA factor below 1 says that the other way is smaller for the tasks the bank has now."
    )


def _limits(bank: Bank) -> str:
    if bank.backbone.pretrained:
        own = (
            "- What the images that the pretrained weights are from lacked or had too much of shows in every task.\n"
            "- Heads are good for images like those of the bank's first tasks, and need not be for others."
        )
    else:
        own = (
            "- Accuracy is that of a subnetwork of a random network: below a network trained on the one task.\n"
            "- Combinations are good for tasks like those the masks were trained on, and need not be for others."
        )
    return f"## Limits\n\n- The task of an image has to be known, or inferred at some cost in accuracy.\n{own}"


def _rebuild(
    bank: Bank, tasks: Sequence[TaskRecord], name: str, command: str | None, rebuild: Rebuild | None
) -> tuple[str, ...]:
    lines: Sequence[str]
    if command:
        lines, how = [command.strip()], "As recorded when it was pushed."
    elif rebuild is None:
        return ()
    else:
        lines = rebuild(bank, tasks, name)
        how = (
            "Derived from what the bank records of its masks and tasks. The seed given is that of the backbone; "
            "the bank records derived seeds of masks, not the option they came from."
        )
    return ("## Rebuild\n\n```\n" + "\n".join(lines) + f"\n```\n\n{how}",)


def _streams(references: Sequence[str]) -> list[str]:
    return sorted({reference.partition("/")[0].partition(":")[0] for reference in references})


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-")


def _as_text(text: str) -> str:
    """A text of the bank inside Markdown: one line, no table, tag, link, image or code of its own."""
    return re.sub(r"[|\[\]`]", r"\\\g<0>", " ".join(text.split()).replace("<", "&lt;"))


def _as_path(name: str) -> str:
    """A file here that no command takes for an option."""
    return f"./{name}" if name.startswith("-") else name


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.1f} %"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
