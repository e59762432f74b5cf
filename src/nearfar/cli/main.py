"""The ``nearfar`` program: commands and error messages."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CoercionError, CycloptsError, Parameter, Token, convert

import nearfar
from nearfar.cli.anomaly import anomaly
from nearfar.cli.attack import attack
from nearfar.cli.browse import browse
from nearfar.cli.config_file import read_config_file
from nearfar.cli.curate import curate
from nearfar.cli.demo import demo
from nearfar.cli.denoise import denoise
from nearfar.cli.encode import encode
from nearfar.cli.evaluate import evaluate
from nearfar.cli.export import export
from nearfar.cli.index import index
from nearfar.cli.inpaint import inpaint
from nearfar.cli.neighbors import neighbors
from nearfar.cli.purify import purify
from nearfar.cli.reconstruct import reconstruct
from nearfar.cli.report import report
from nearfar.cli.reproduce import reproduce
from nearfar.cli.search import search
from nearfar.cli.train import RecipeChoice, train
from nearfar.cli.train_options import with_shown_defaults
from nearfar.cli.transfer import transfer
from nearfar.config import configure
from nearfar.errors import NearfarError


def _convert(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert values as cyclopts does, but reject values such as 2.5 for integers.

    cyclopts would round them. Also expand ~ at the start of paths, since no shell does so for
    values in configuration files.
    """
    converted = convert(kind, tokens)
    values = converted if isinstance(converted, tuple) else (converted,)
    for token, value in zip(tokens, values, strict=False):
        if isinstance(value, int) and "." in token.value and float(token.value) != value:
            raise CoercionError(f"expected a whole number, not {token.value}", token=token)
    return _expand_home(converted) if isinstance(converted, Path) else converted


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # home of an unknown user
        return path


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    """Format a warning as one line, without the location in the source."""
    return f"warning: {' '.join(str(message).split())}\n"


HELP = {"--help", "-h", "--help-all"}


def make_app(train: Callable[..., None] = train) -> App:
    """Return the cyclopts app with all commands."""
    app = App(
        name="nearfar",
        help=(
            "Learn image representations without labels, by neighborhood-relational encoding.\n\n"
            "Try it: nearfar demo"
        ),
        version=nearfar.__version__,
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=(), consume_multiple=True, converter=_convert),
        help_format="markdown",
        config=read_config_file,
    )
    networks = demo, train, encode, export, reconstruct, denoise, inpaint, purify, attack
    embeddings = neighbors, search, browse, index, curate, evaluate, report
    for command in (*networks, *embeddings, anomaly, transfer, reproduce):
        app.command(command)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line. User errors print one line and exit with code 2.

    Examples
    --------
    >>> try:
    ...     main(["--version"])
    ... except SystemExit as end:
    ...     print("exit code", end.code)
    0...
    exit code 0
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # its encoding may lack characters of a table
        sys.stdout.reconfigure(errors="backslashreplace")
    with ending_in_one_line():
        if not _train_help(tokens):
            make_app()(tokens, exit_on_error=False, print_error=False)


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """Exit on errors with a one-line message, and print warnings as one line each."""
    usual_format, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        yield
    except (NearfarError, CycloptsError) as error:
        _fail(str(error), 2)
    except KeyboardInterrupt as interrupt:
        _fail(str(interrupt) or "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 2)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "allocate memory" in str(error)):
            raise
        _fail("out of memory: choose a smaller --size or --batch-size", 2)
    finally:
        warnings.formatwarning = usual_format


def _fail(message: str, code: int) -> NoReturn:
    print(f"nearfar: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _train_help(tokens: list[str]) -> bool:
    """Show the help page of ``train`` if requested, and return whether it was.

    The values of the given recipe are shown as defaults.
    """
    asked = HELP.intersection(tokens)
    if tokens[:1] != ["train"] or not asked:
        return False
    rest = [token for token in tokens[1:] if token not in asked]
    _, bound, _, _ = recipe_app.parse_known_args(rest)
    recipe = bound.arguments.get("recipe", "auto")
    shown = None if recipe == "auto" else configure({}, recipe=recipe)
    everything = "--help-all" in asked
    page = with_shown_defaults(train, shown, everything=everything)
    app = make_app(page)
    app(["train", "--help"], exit_on_error=False, print_error=False)
    return True


recipe_app = App(help_flags=(), version_flags=())


@recipe_app.default
def _recipe(*, recipe: RecipeChoice = "auto") -> None:
    """Command used to parse only the option ``--recipe``."""
