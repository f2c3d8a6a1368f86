"""`impress zoo`: list, search, show, pull, push, verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impress_cli import options, render
from impress_cli.shared import Output, command

if TYPE_CHECKING:
    from impress_format.zoo.index import ZooBank

app = typer.Typer(help="Share banks: a zoo in a folder, behind https or on the Hub.", no_args_is_help=True)

Zoo = Annotated[
    str | None,
    typer.Option(
        "--zoo",
        metavar="ZOO",
        help="A folder, https://…/ or hf://OWNER/NAME\\[@REVISION]. Default: $IMPRESS_ZOO, else zoo/ of this checkout.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the bank in the zoo.")]


@app.command("list")
@command
def list_banks(output: Output, zoo: Zoo = None) -> None:
    """The banks of a zoo.

    Example: impress zoo list --zoo zoo
    """
    from impress_format.zoo.sources import open_source, read_index

    source = open_source(zoo)
    _show_banks(f"Zoo {source.label}", read_index(source).banks, json=output.json)


@app.command()
@command
def search(
    output: Output,
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="All must occur, upper or lower case.")],
    zoo: Zoo = None,
) -> None:
    """The banks in whose name, title, description, tags or backbone every word occurs.

    Example: impress zoo search mnist rotated
    """
    from impress_format.zoo.index import search_banks
    from impress_format.zoo.sources import open_source, read_index

    source = open_source(zoo)
    found = search_banks(read_index(source), words)
    _show_banks(f"{' '.join(words)}: {len(found)} in zoo {source.label}", found, json=output.json)


@app.command()
@command
def show(
    output: Output,
    name: Name,
    zoo: Zoo = None,
) -> None:
    """One bank of a zoo: its entry and its model card.

    Example: impress zoo show digits-rotated
    """
    from impress_format.zoo.index import find_bank
    from impress_format.zoo.sources import open_source, read_card_text, read_index

    source = open_source(zoo)
    bank = find_bank(read_index(source), name)
    card = read_card_text(source, bank)
    if output.json:
        render.print_json({**_document(bank), "card": card})
        return
    rows = [
        ("title", bank.title),
        ("description", bank.description),
        ("tags", ", ".join(bank.tags)),
        ("backbone", bank.backbone),
        ("masks", str(bank.masks)),
        ("tasks", str(bank.tasks)),
        ("size", f"{render.size(bank.bytes)} in {len(bank.files)} files"),
        ("digest", bank.digest),
    ]
    render.print_table(bank.name, ("what", ""), [(key, text) for key, text in rows], text_columns=2)
    render.print_line(card if card is not None else "The zoo has no model card of it.")


@app.command()
@command
def pull(
    output: Output,
    name: Name,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="Folder to make. Default: NAME.impress here.", show_default=False),
    ] = None,
    zoo: Zoo = None,
) -> None:
    """Download a bank; it appears at TARGET when every byte of it is checked.

    Interrupted? The same command resumes where it stopped.

    Example: impress zoo pull digits-rotated digits.impress
    """
    from impress_format.bank import open_bank
    from impress_format.zoo.index import find_bank
    from impress_format.zoo.pull import pull_bank
    from impress_format.zoo.sources import open_source, read_index

    source = open_source(zoo)
    bank = find_bank(read_index(source), name)
    target = target if target is not None else Path(bank.folder)
    with render.progress(len(bank.files), "files", quiet=output.quiet) as (describe, step):

        def on_file(path: str) -> None:
            describe(path)
            step()

        pulled = pull_bank(source, bank, target, on_file=on_file)
    if output.json:
        document = {"bank": str(target), "name": bank.name, "digest": bank.digest, "bytes": bank.bytes}
        render.print_json({**document, "fetched": pulled.fetched, "kept": pulled.kept, "source": source.label})
    elif pulled.already_there:
        render.print_line(f"{target}: the very same bank is there already")
    else:
        resumed = f", {pulled.kept} of them from before" if pulled.kept else ""
        render.print_line(
            f"{target}: {len(bank.files)} files{resumed}, {render.size(bank.bytes)}, all checked; "
            f"`impress stats {target}` shows what it holds"
        )
        if (theirs := open_bank(target).backbone.pretrained) is not None:
            render.print_line(
                f"It stands on weights that it does not hold, {theirs.source}: `impress zoo show {bank.name}` says how "
                "they are had"
            )


@app.command()
@command
def push(
    output: Output,
    path: options.BankPath,
    zoo: Zoo = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name in the zoo. Default: the folder's, without .impress.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE.md", help="Model card with front matter. Default: one is written."),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title in index and card. Default: the name.")] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="What it is. Default: written from the manifest.")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option("--command", metavar="TEXT", help="What rebuilds the bank, for the card. Default: derived."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another bank of the same name.")] = False,
) -> None:
    """Put a bank into a zoo, a folder or hf://OWNER/NAME\\[@BRANCH], with a card and a page. On the Hub: in one commit.

    Example: impress zoo push digits.impress --zoo hf://OWNER/NAME
    """
    from impress_cli.rebuilding import rebuilding_commands
    from impress_format.zoo.push import prepare
    from impress_format.zoo.push import push as push_bank
    from impress_format.zoo.sources import zoo_name
    from impress_learn.jobs.report import page_of
    from impress_learn.streams.table import hub_data_sets

    place = zoo_name(zoo)
    prepared = prepare(
        path,
        name,
        card=card,
        title=title,
        description=description,
        command=command,
        data_sets=hub_data_sets(),
        rebuild=rebuilding_commands,
        page=page_of,
    )
    pushed = push_bank(prepared, place, replace=replace)
    if output.json:
        render.print_json({**_document(prepared.entry), "changed": pushed.changed, "where": pushed.where})
    elif pushed.changed:
        render.print_line(f"{prepared.entry.name}: pushed to {pushed.where}, digest {prepared.entry.digest[:12]}")
    else:
        render.print_line(f"{prepared.entry.name}: {pushed.where} has the very same bank, card and page already")


@app.command()
@command
def verify(
    output: Output,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Banks to check. Default: all.", show_default=False)
    ] = None,
    zoo: Zoo = None,
) -> None:
    """Check a zoo: its index, every byte of every bank, the cards. Exit status 1 if anything is wrong.

    Example: impress zoo verify --zoo zoo
    """
    from impress_format.zoo.audit import verify_zoo
    from impress_format.zoo.sources import open_source

    source = open_source(zoo)
    outcome = verify_zoo(
        source, names or (), on_bank=lambda name: render.remark(f"checking {name}", quiet=output.quiet or output.json)
    )
    if output.json:
        errors = [{"file": problem.file, "error": problem.error} for problem in outcome.problems]
        render.print_json({"ok": outcome.ok, "checked": outcome.checked, "errors": errors})
    elif outcome.ok:
        render.print_line(f"{source.label}: {render.count(outcome.checked, 'file')} checked, all OK")
    else:
        rows = [(problem.file, problem.error) for problem in outcome.problems]
        title = f"{source.label}: {render.count(len(rows), 'problem')} in {render.count(outcome.checked, 'file')}"
        render.print_table(title, ("file", "problem"), rows, text_columns=2)
    if not outcome.ok:
        raise typer.Exit(1)


def _show_banks(title: str, banks: Sequence[ZooBank], *, json: bool) -> None:
    if json:
        render.print_json({"banks": [_document(bank) for bank in banks]})
        return
    rows = [
        (
            bank.name,
            bank.title,
            bank.backbone,
            str(bank.masks),
            str(bank.tasks),
            render.size(bank.bytes),
        )
        for bank in banks
    ]
    render.print_table(title, ("name", "title", "backbone", "masks", "tasks", "size"), rows, text_columns=3)


def _document(bank: ZooBank) -> dict[str, object]:
    from msgspec import to_builtins

    document: dict[str, object] = to_builtins(bank)
    return document
