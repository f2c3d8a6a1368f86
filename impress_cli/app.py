"""The Typer app, and the one place where errors become exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted."""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Any

import typer

from impress_cli import __version__
from impress_cli.commands import bank, evaluate, export, infer, info, report, reproduce, stats, task, weights, zoo
from impress_cli.render import prepare_streams, print_error
from impress_format.errors import ImpressError

app = typer.Typer(
    name="impress",
    help="One frozen random network, a bank of compressed binary masks, and every new task a file of a few hundred "
    "bytes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bank.app, name="bank")
app.add_typer(task.app, name="task")
app.add_typer(zoo.app, name="zoo")
app.add_typer(weights.app, name="weights")
app.command("eval")(evaluate.evaluate)
app.command("infer")(infer.infer)
app.command("stats")(stats.stats)
app.command("report")(report.report)
app.command("reproduce")(reproduce.reproduce)
app.command("export")(export.export)
app.command("streams")(info.streams)
app.command("doctor")(info.doctor)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"impress {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Continual learning with a bank of masks; see `impress COMMAND --help`."""


def main() -> None:
    """Run the command line and exit."""
    debug = "--debug" in sys.argv
    # Before torch is imported: threads that spin while they wait make training several times slower as soon as
    # another process wants a core; letting them sleep costs 15 to 20 % on an idle machine (docs/results/speed.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare_streams()
    try:
        app()
    except ImpressError as error:
        if debug:
            raise
        print_error(_with_options(str(error)))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as error:  # Typer turns Ctrl-C into exit status 130
        if isinstance(error, SystemExit) and error.code != 130:
            raise
        print_error("interrupted. What was finished is stored; the same command resumes from there.")
        # Not sys.exit: where the interrupt fell into an import that runs generated code, CPython remembers it and
        # kills itself by SIGINT at the end, whatever status was asked for.
        sys.stdout.flush()
        os._exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        _discard_stdout()
        sys.exit(1)
    except (MemoryError, OSError) as error:
        if debug:
            raise
        print_error(_in_words(error))
        _discard_stdout()  # what is still in its buffer could not be written, and would fail once more at the end
        sys.exit(1)


def _with_options(message: str) -> str:
    """A message of the library, its fields (`batch_size`, `alpha=False`) as the options of this command line
    (--batch-size, --no-alpha).
    """
    options = _options(typer.main.get_command(app))
    return re.sub(r"`(\w+(?:=False)?)`", lambda match: options.get(match[1], match[0]), message)


def _options(command: Any) -> dict[str, str]:
    found = {one.name: one.opts[0] for one in command.params if one.opts and one.opts[0].startswith("--")}
    found |= {f"{one.name}=False": one.secondary_opts[0] for one in command.params if one.secondary_opts}
    for sub in getattr(command, "commands", {}).values():
        found.update(_options(sub))
    return found


def _in_words(error: MemoryError | OSError) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else f"cannot write the output: {reason}"


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
