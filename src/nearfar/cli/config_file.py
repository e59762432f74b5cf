"""Option ``--config`` of ``nearfar train``: options from a YAML or JSON file."""

from __future__ import annotations

import functools
import inspect
import json
import operator
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from nearfar.cli.options import TrainDataOptions
from nearfar.cli.train_options import without_callables
from nearfar.config import KINDS, flatten, train_options
from nearfar.errors import NearfarError, reason
from nearfar.fields import convert

if TYPE_CHECKING:
    from yaml import MappingNode, SafeLoader, ScalarNode

#: Numbers that YAML 1.1 reads in a base other than 10.
_NOT_DECIMAL = re.compile(r"[-+]?0[0-7_]+|.*:.*")


def read_config_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Add the options in the ``--config`` file that are not given on the command line."""
    if commands != ("train",):
        return
    argument = arguments.get("--config", default=None)
    if argument is None or not argument.tokens:
        return
    path = argument.tokens[-1].value
    options = flatten(_read(Path(path)))
    if options.get("network") == "convnet" or "backbone" in options:
        options.pop("network", None)  # follows from `backbone`
    try:
        options = _checked(options)
    except NearfarError as error:
        raise NearfarError(f"configuration {path!r}: {error}") from error
    Dict({"train": options}, source=path)(app, commands, arguments)


def _read(path: Path) -> dict[str, Any]:
    """Return the options in a YAML or JSON file, which may be grouped into sections."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise NearfarError(
            f"configuration {str(path)!r} cannot be read ({reason(error)}): expected UTF-8 text"
        ) from error
    try:
        if path.suffix.lower() == ".json":
            values = json.loads(text, object_pairs_hook=_without_repetition)
        else:
            values = yaml.load(text, _yaml_loader())  # noqa: S506 - a SafeLoader
    except NearfarError as error:
        raise NearfarError(f"configuration {str(path)!r}: {error}") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise NearfarError(
            f"configuration {str(path)!r} cannot be parsed: {reason(error)}"
        ) from error
    except yaml.YAMLError as error:
        raise NearfarError(f"configuration {str(path)!r} is not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise NearfarError(f"configuration {str(path)!r}: expected options and their values")
    return values


def _without_repetition(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return a dictionary. Raise an error if a key is repeated, which parsers would accept."""
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NearfarError(f"{key} is given twice: expected each option once")
        found[key] = value
    return found


def _yaml_loader() -> type[SafeLoader]:
    """Return a YAML loader that rejects repeated keys and nondecimal numbers."""
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML loader that rejects repeated keys and nondecimal numbers."""

    def construct(loader: SafeLoader, node: MappingNode) -> dict[Any, Any]:
        loader.flatten_mapping(node)
        return _without_repetition(loader.construct_pairs(node, deep=True))

    def construct_number(loader: SafeLoader, node: ScalarNode) -> int | float:
        if _NOT_DECIMAL.fullmatch(node.value):  # 010 would be 8, and 1:30 would be 90
            raise NearfarError(f"{node.value}: expected a decimal number, or text in quotes")
        whole = node.tag == "tag:yaml.org,2002:int"
        return (loader.construct_yaml_int if whole else loader.construct_yaml_float)(node)

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", construct_number)
    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct)
    return Loader


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options and convert them to their types. Null values are left out."""
    hints = _hints()
    checked: dict[str, Any] = {}
    for given, value in options.items():
        name = given.replace("-", "_")
        if name not in hints:
            raise NearfarError(f"{given}: there is no such option for training")
        if name in checked:
            raise NearfarError(f"{name} is given twice, also as {given}: expected it once")
        if value is not None:
            converted = _from_text(hints[name], value)
            checked[name] = convert(name, hints[name], converted)
    return checked


def _hints() -> dict[str, Any]:
    """Return the type of each option of ``nearfar train``."""
    from nearfar.cli.train import train

    hints: dict[str, Any] = {name: Literal[tuple(kinds)] for name, kinds in KINDS.items()}
    for option in train_options():
        hint = without_callables(option.hint)
        hints[option.name] = hints[option.name] | hint if option.name in hints else hint
    own = get_type_hints(train, include_extras=True)
    for name in inspect.signature(train).parameters:
        if name not in ("options", "images", "config"):
            hints[name] = _text_for_path(own[name])
    image_hints = get_type_hints(TrainDataOptions, include_extras=True)
    for each in fields(TrainDataOptions):
        hints[each.name] = _text_for_path(image_hints[each.name])
    return hints


def _text_for_path(hint: Any) -> Any:
    """Return the type of an option in a configuration file, with strings in place of paths."""
    if get_origin(hint) is Annotated:
        return _text_for_path(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return functools.reduce(operator.or_, map(_text_for_path, get_args(hint)))
    return str if hint is Path else hint


def _from_text(hint: Any, value: Any) -> Any:
    """Convert strings to numbers where the type requires it. YAML reads 1e-3 as a string."""
    if isinstance(value, str) and not _accepts(hint, value):
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value)
    if isinstance(value, int) and not _accepts(hint, value) and _accepts(hint, str(value)):
        return str(value) if get_origin(hint) is not None else value  # --precision 32
    if isinstance(value, list):
        return [_from_text(float, each) if isinstance(each, str) else each for each in value]
    return value


def _accepts(hint: Any, value: Any) -> bool:
    try:
        convert("", hint, value)
    except NearfarError:
        return False
    return True
