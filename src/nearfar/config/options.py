"""Flat options, as on the command line and in estimators, and the sections to which they belong.

Options are derived from the fields of the sections. There is no separate list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_type_hints

from nearfar.config.network import ConvNet
from nearfar.config.objective import ContrastiveObjective, NeighborSearch, RelationalObjective
from nearfar.config.optim import Optim
from nearfar.config.recipes import RECIPES, RecipeName
from nearfar.config.train import CUSTOM, KINDS, SECTIONS, TrainConfig
from nearfar.errors import NearfarError

#: Fields of `TrainConfig` that are themselves options.
PLAIN = ("seed", "device", "precision")
#: Names of sections in a file.
NESTED = (*KINDS, "optim", "search")


def _name(field: Field[Any]) -> str:
    return str(field.metadata.get("option", field.name))


#: Names of options that differ from those of their fields, by section and field.
_RENAMED = {
    (section, each.name): _name(each)
    for section, kinds in KINDS.items()
    for kind in kinds.values()
    for each in fields(kind)
}


@dataclass(frozen=True)
class Option:
    """Training option.

    Parameters
    ----------
    name : str
        Name in `NRE` and, with hyphens, on the command line.
    section : type
        Dataclass to which the option belongs.
    field : str
        Name of the field of the dataclass.
    hint : type
        Type of the field.
    default : object
        Default of the field.

    Examples
    --------
    >>> next(each for each in train_options() if each.name == "temperature").default
    0.2
    """

    name: str
    section: type
    field: str
    hint: Any
    default: Any


def train_options() -> Iterator[Option]:
    """Yield every option of every section.

    Examples
    --------
    >>> {"epochs", "weights", "backbone"} <= {option.name for option in train_options()}
    True
    """
    for section in (
        *(kind for kinds in KINDS.values() for kind in kinds.values()),
        *(NeighborSearch, Optim),
    ):
        hints = get_type_hints(section)
        for each in fields(section):
            if hints[each.name] is not NeighborSearch:
                default = None if each.default is MISSING else each.default
                yield Option(_name(each), section, each.name, hints[each.name], default)
    hints = get_type_hints(TrainConfig)
    for each in fields(TrainConfig):
        if each.name in PLAIN:
            yield Option(each.name, TrainConfig, each.name, hints[each.name], each.default)


def configure(
    *sources: Mapping[str, Any], recipe: RecipeName | None = None, base: TrainConfig | None = None
) -> TrainConfig:
    """Build a configuration from options.

    Parameters
    ----------
    *sources : mapping
        Options by name, or sections by name, each with its fields. Earlier sources take precedence.
        Options with the value None count as not given.
    recipe : {"paper", "nearfar", "continue"}, optional
        Recipe that defines all other options. Default: "continue" if a backbone starts from
        pretrained weights, otherwise "paper".
    base : TrainConfig, optional
        Configuration that defines all other options, in place of a recipe, such as the
        configuration of a run to resume. If the kind of a section changes, the other options of
        that section are set to their defaults.

    Raises
    ------
    NearfarError
        If an option is unknown, or belongs to another objective, pretext task or network than the
        chosen one.

    Examples
    --------
    >>> configure({"temperature": 0.1}, recipe="nearfar").objective.temperature
    0.1
    >>> configure({"optim": {"epochs": 3}}).optim.epochs
    3
    """
    given: dict[str, Any] = {}
    for source in reversed(sources):
        given |= {k: v for k, v in flatten(source).items() if v is not None}
    known = {option.name for option in train_options()} | KINDS.keys()
    for name in given:
        if name not in known:
            raise NearfarError(f"{name}={given[name]!r}: there is no such option for training")
    if given.get("backbone") is not None:
        given.setdefault("network", "backbone")
    if base is None and recipe is None:
        recipe = "continue" if _starts_pretrained(given) else "paper"
    rest = dict(_recipe(recipe)) if base is None else _kept(base, given)
    config, used = _build(given, rest)
    for name, value in given.items():
        if name not in used:
            raise NearfarError(_belongs_elsewhere(name, value, config))
    return config


def implied_recipe(options: Mapping[str, Any]) -> RecipeName | None:
    """Return the recipe that options imply, or None if they fit every recipe.

    Parameters
    ----------
    options : mapping
        Options by name. See `configure`.

    Examples
    --------
    >>> implied_recipe({"loss_weights": (0.6, 0.4, 0.0), "epochs": 3})
    'paper'
    >>> implied_recipe({"epochs": 3}) is None
    True
    """
    given = {name: value for name, value in flatten(options).items() if value is not None}
    if _starts_pretrained(given):
        return "continue"
    names = {kind: _names(kind) for kinds in KINDS.values() for kind in kinds.values()}
    names[RelationalObjective] |= _names(NeighborSearch)
    pretexts = set[str]().union(*(names[kind] for kind in KINDS["pretext"].values()))
    contrastive, relational = names[ContrastiveObjective], names[RelationalObjective]
    paper = (relational - contrastive) | pretexts | {"pretrain_epochs", "pretrain_lr"}
    scratch = (contrastive - relational) | names[ConvNet] | {"backbone", "weights"}
    if given.get("objective") == "contrastive":
        return "nearfar"
    chosen = {name: given.get(name, next(iter(kinds))) for name, kinds in KINDS.items()}
    if "objective" in given or chosen["pretext"] != "plain" or paper & given.keys():
        return "paper"
    return "nearfar" if "network" in given or scratch & given.keys() else None


def _starts_pretrained(options: Mapping[str, Any]) -> bool:
    """Return whether options name a backbone with pretrained weights."""
    pretrained = options.get("weights", "random") not in ("random", "kmeans")
    return pretrained and (
        options.get("backbone") is not None or options.get("network") == "backbone"
    )


def _names(section: type) -> set[str]:
    """Return the names of the options of a section."""
    return {_name(each) for each in fields(section)}


def recipe(name: RecipeName, **options: Any) -> TrainConfig:
    """Return the configuration of a recipe, with some options overridden.

    Parameters
    ----------
    name : {"paper", "nearfar", "continue"}
        "paper": training as in the paper. "nearfar": contrastive training of an encoder with batch
        normalization, which results in better embeddings. "continue": contrastive training from a
        pretrained backbone, by default `DEFAULT_ENCODER`.
    **options
        See `configure`.

    Examples
    --------
    >>> from nearfar import NRE, recipe
    >>> model = NRE(config=recipe("nearfar", epochs=30))
    """
    return configure(options, recipe=name)


def _recipe(name: str | None) -> Mapping[str, Any]:
    if name not in RECIPES:
        raise NearfarError(f"recipe {name!r} is unknown: expected {' or '.join(RECIPES)}")
    return RECIPES[name]


def flatten(source: Mapping[str, Any] | TrainConfig) -> dict[str, Any]:
    """Return the options of a configuration by name.

    For sections that have alternatives, such as the objective, the kind is included.

    Examples
    --------
    >>> flatten({"objective": {"kind": "contrastive", "temperature": 0.1}})
    {'objective': 'contrastive', 'temperature': 0.1}
    """
    flat: dict[str, Any] = {}
    names = _sections(source) if isinstance(source, TrainConfig) else source
    for name, value in names.items():
        if isinstance(value, SECTIONS):
            flat |= _flat_section(name, value)
        elif isinstance(value, Mapping) and name in NESTED and CUSTOM not in value:
            kind = value.get("kind")
            flat |= {} if kind is None else {name: kind}
            nested = {k: v for k, v in value.items() if k != "kind"}
            flat |= flatten({_RENAMED.get((name, k), k): v for k, v in nested.items()})
        else:
            flat[name] = value
    return flat


def _kept(base: TrainConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a configuration, without those of sections that change their kind."""
    kept: dict[str, Any] = {}
    for name, section in _sections(base).items():
        options = flatten({name: section})
        if name not in given or name not in KINDS or options[name] == given[name]:
            kept |= options
    return kept


def _sections(config: TrainConfig) -> dict[str, Any]:
    return {each.name: getattr(config, each.name) for each in fields(config)}


def _flat_section(name: str, section: Any) -> dict[str, Any]:
    flat = {name: section.kind} if name in KINDS else {}
    for each in fields(section):
        value = getattr(section, each.name)
        nested = isinstance(value, NeighborSearch)
        flat |= _flat_section("search", value) if nested else {_name(each): value}
    return flat


def _build(given: Mapping[str, Any], rest: Mapping[str, Any]) -> tuple[TrainConfig, set[str]]:
    """Return a configuration, and the names of the options that apply to it."""
    values = {**rest, **given}
    used: set[str] = set()

    def section(kind: type, **nested: Any) -> Any:
        names = {each.name: _name(each) for each in fields(kind)}
        used.update(names.values())
        taken = {field: values[name] for field, name in names.items() if name in values}
        return kind(**(taken | nested))

    sections: dict[str, Any] = {}
    for name, kinds in KINDS.items():
        used.add(name)
        chosen = values.get(name, next(iter(kinds)))
        if callable(chosen):
            sections[name] = chosen
        elif not isinstance(chosen, str) or chosen not in kinds:
            raise NearfarError(f"{name}={chosen!r}: expected {' or '.join(kinds)}")
        elif chosen == "backbone" and values.get("backbone") is None:
            raise NearfarError("network='backbone' needs a name: expected the option backbone")
        elif kinds[chosen] is RelationalObjective:
            sections[name] = section(RelationalObjective, search=section(NeighborSearch))
        else:
            sections[name] = section(kinds[chosen])
    used.update(PLAIN)
    plain = {name: values[name] for name in PLAIN if name in values}
    return TrainConfig(**sections, optim=section(Optim), **plain), used


def _belongs_elsewhere(name: str, value: Any, config: TrainConfig) -> str:
    """Return the error message for an option that belongs to another kind of section."""
    for section, kinds in KINDS.items():
        homes = [
            kind
            for kind, each in kinds.items()
            if name in {_name(f) for f in fields(each)}
            or (each is RelationalObjective and name in {f.name for f in fields(NeighborSearch)})
        ]
        if homes:
            chosen = getattr(config, section)
            return (
                f"{name}={value} belongs to {section} {' or '.join(homes)}, and the {section} is "
                f"{getattr(chosen, 'kind', 'your own')}: choose that {section}, or leave out {name}"
            )
    raise AssertionError(name)
