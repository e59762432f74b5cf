"""The program: its commands, and how errors are told."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CoercionError, CycloptsError, Parameter, Token, convert
from cyclopts.config import Dict

import nearfar
from nearfar.cli.anomaly import anomaly
from nearfar.cli.attack import attack
from nearfar.cli.demo import demo
from nearfar.cli.denoise import denoise
from nearfar.cli.encode import encode
from nearfar.cli.evaluate import evaluate
from nearfar.cli.inpaint import inpaint
from nearfar.cli.neighbors import neighbors
from nearfar.cli.purify import purify
from nearfar.cli.reconstruct import reconstruct
from nearfar.cli.report import report
from nearfar.cli.reproduce import reproduce
from nearfar.cli.train import train
from nearfar.cli.transfer import transfer
from nearfar.errors import NearfarError
from nearfar.training.recipes import RECIPES


def _convert(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert as cyclopts does, which would round 2.5 where a whole number is asked for."""
    converted = convert(kind, tokens)
    values = converted if isinstance(converted, tuple) else (converted,)
    for token, value in zip(tokens, values, strict=False):
        if isinstance(value, int) and "." in token.value and float(token.value) != value:
            raise CoercionError(f"expected a whole number, not {token.value}", token=token)
    return converted


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
)
for command in (
    demo,
    train,
    encode,
    reconstruct,
    denoise,
    inpaint,
    purify,
    attack,
    neighbors,
    evaluate,
    report,
):
    app.command(command)
app.command(anomaly)
app.command(transfer)
app.command(reproduce)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; what a user got wrong ends it with one line and exit code 2."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # which may not know all letters of a table
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app.config = _configuration(tokens)
        app(tokens, exit_on_error=False, print_error=False)
    except (NearfarError, CycloptsError) as error:
        _fail(str(error), 2)
    except KeyboardInterrupt as interrupt:
        _fail(str(interrupt) or "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 2)


def _fail(message: str, code: int) -> NoReturn:
    print(f"nearfar: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _configuration(tokens: list[str]) -> tuple[Dict, ...]:
    """What `train` takes from --config, --resume and --recipe for the options not given."""
    if tokens[:1] != ["train"]:
        return ()
    sources = []
    out, name = _value_of("--out", tokens), _value_of("--recipe", tokens)
    resume = "--resume" in tokens
    if (file := _value_of("--config", tokens)) is not None:
        written = _read_configuration(Path(file))
        sources.append(Dict({"train": written}, source=file))
        out, name = out or written.get("out"), name or written.get("recipe")
        resume = resume or written.get("resume") is True
    if resume and out is not None:
        from nearfar.runs import read_config

        saved = read_config(Path(out))
        opened = {
            name: getattr(saved.data, name) for name in ("data_root", "size", "channels", "strict")
        }
        options = {k: v for k, v in (saved.train | opened).items() if v is not None}
        sources.append(Dict({"train": options}, source=out))
    if name in RECIPES:
        sources.append(Dict({"train": RECIPES[name]}, source=f"recipe {name}"))
    return tuple(sources)


def _value_of(option: str, tokens: list[str]) -> str | None:
    """The value of an option, as `--option value` or `--option=value`."""
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token == option:
            return following
        if token.startswith(f"{option}="):
            return token.partition("=")[2]
    return None


def _read_configuration(path: Path) -> dict[str, Any]:
    """Read a description of a run from YAML or JSON."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NearfarError(f"configuration {str(path)!r} cannot be read: {error}") from error
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError) as error:
        raise NearfarError(f"configuration {str(path)!r} cannot be understood: {error}") from error
    except yaml.YAMLError as error:
        raise NearfarError(f"configuration {str(path)!r} is not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise NearfarError(f"configuration {str(path)!r}: expected options with their values")
    for name in ("out", "recipe"):
        if not isinstance(values.get(name, ""), str):
            raise NearfarError(
                f"configuration {str(path)!r} has {name}={values[name]!r}: expected text, in quotes"
            )
    return values
