"""Options of ``nearfar train``, derived from the fields of `TrainConfig` and its sections."""

from __future__ import annotations

import collections.abc
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields, make_dataclass
from functools import cache, update_wrapper
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from docstring_parser import DocstringStyle, parse

from nearfar.config import KINDS, Option, TrainConfig, flatten, train_options

#: Options on the short help page, in order.
COMMON = (
    *("epochs", "pretrain_epochs", "batch_size", "lr", "objective", "loss_weights", "neighbors"),
    *("embedding_size", "backbone", "weights", "pretext", "device"),
)
#: Sections chosen by an option; ``--backbone`` determines the network.
CHOICES = {
    "objective": "Objective of the second phase: the paper's relational one, or contrastive.",
    "pretext": "Corruption that the autoencoder learns to undo; plain: none.",
}

#: Part of a description that applies only to Python.
OWN = re.compile(r"(; or|\. Or) your own.*")

TRAINING = Group("Training", sort_key=2)


def options_type(shown: TrainConfig | None = None, *, everything: bool = False) -> type:
    """Return a dataclass with a field for each option. None stands for "not given".

    Parameters
    ----------
    shown : TrainConfig, optional
        Configuration whose values the help page shows as defaults.
    everything : bool
        Whether the help page shows all options instead of only the common ones.
    """
    defaults = {} if shown is None else flatten(shown)
    entries: dict[str, tuple[Any, Any]] = {}
    for name, hint, text, group in _entries(shown, everything):
        negative = f"--no-{name.replace('_', '-')}" if bool in get_args(hint) else ()
        show = everything or name in COMMON
        parameter = Parameter(help=text, group=group, show=show, negative=negative)
        entries.setdefault(name, (Annotated[hint, parameter], defaults.get(name)))
    order = sorted(entries, key=lambda name: COMMON.index(name) if name in COMMON else len(COMMON))
    made = make_dataclass(
        "TrainOptions",
        [(name, entries[name][0], field(default=entries[name][1])) for name in order],
        namespace={"__module__": __name__},  # otherwise "types", which cyclopts treats as built-in
        frozen=True,
        kw_only=True,
    )
    return Parameter(name="*")(made)


def given_options(options: Any) -> dict[str, Any]:
    """Return the options given by the user."""
    values = {each.name: getattr(options, each.name) for each in fields(options)}
    return {name: value for name, value in values.items() if value is not None}


def with_shown_defaults(
    command: Callable[..., None], shown: TrainConfig | None, *, everything: bool
) -> Callable[..., None]:
    """Return a command whose help page shows the values of a configuration as defaults.

    Without a configuration, no defaults are shown.
    """

    def page(*args: Any, **kwargs: Any) -> None:
        command(*args, **kwargs)

    update_wrapper(page, command)
    kind = options_type(shown, everything=everything)
    signature = inspect.signature(command)
    changed = signature.parameters["options"].replace(annotation=kind, default=kind())
    parameters = [changed if p.name == "options" else p for p in signature.parameters.values()]
    page.__annotations__ = {**command.__annotations__, "options": kind}
    page.__dict__["__signature__"] = signature.replace(parameters=parameters)
    return page


def _entries(shown: TrainConfig | None, everything: bool) -> Iterator[tuple[str, Any, str, Group]]:
    """Yield the name, type, help text and group of each option."""
    for name in CHOICES:
        kinds = tuple(KINDS[name])
        yield name, Literal[kinds] | None, CHOICES[name], TRAINING
    used = () if shown is None else (type(shown.objective), type(shown.network))
    for option in sorted(train_options(), key=lambda option: option.section not in used):
        text = _parameter_texts(option.section)[option.field]
        yield option.name, without_callables(option.hint) | None, text, _group(option, everything)


def _group(option: Option, everything: bool) -> Group:
    """Return the group of an option on the help page.

    The full page has a group for each section.
    """
    kind = getattr(option.section, "kind", None)
    if not everything:
        return TRAINING
    order = [section for kinds in KINDS.values() for section in kinds.values()]
    if kind is None:
        titles = {"NeighborSearch": "Search for near and far samples (--objective relational)"}
        return Group(titles.get(option.section.__name__, "Training"), sort_key=2)
    section = next(name for name, kinds in KINDS.items() if kind in kinds)
    title = f"--{section} {kind}" if section != "network" else f"Network: {kind}"
    return Group(title, sort_key=3 + order.index(option.section))


def without_callables(hint: Any) -> Any:
    """Return a type without callables, which a command line cannot express."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    kept = [arm for arm in get_args(hint) if get_origin(arm) is not collections.abc.Callable]
    result = kept[0]
    for arm in kept[1:]:
        result = result | arm
    return result


@cache
def _parameter_texts(section: type) -> Mapping[str, str]:
    """Return the descriptions of the parameters of a dataclass, from its numpydoc docstring."""
    texts: dict[str, str] = {}
    for parameter in parse(inspect.getdoc(section) or "", DocstringStyle.NUMPYDOC).params:
        text = " ".join((parameter.description or "").split())
        for name in parameter.arg_name.split(", "):
            texts[name] = OWN.sub(".", text)
    return texts


if TYPE_CHECKING:
    TrainOptions = Any
else:
    TrainOptions = options_type()

NOT_GIVEN: TrainOptions = TrainOptions()
