"""Options by name, and the sections that they belong to."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.config import (
    KINDS,
    Backbone,
    ContrastiveObjective,
    ConvNet,
    NeighborSearch,
    Optim,
    RelationalObjective,
    TrainConfig,
    configure,
    flatten,
    recipe,
    train_options,
)
from nearfar.errors import NearfarError

# --- every configuration there is ----------------------------------------------------------------

#: Values in the ranges of the fields, by name.
NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "loss_weights": st.sampled_from([(0.5, 0.2, 0.3), (1.0, 0.0, 0.0), (0.6, 0.4, 0.0)]),
    "widths": st.none() | st.lists(st.integers(1, 512), min_size=1, max_size=3).map(tuple),
    "clusters": st.none() | st.integers(1, 1000),
    "weights": st.sampled_from(["random", "kmeans"]),
    "backbone": st.sampled_from(["alexnet", "timm:resnet18"]),
    "reference_weights": st.none(),
    "hidden": st.just(0),
    "seed": st.integers(0, 2**32 - 1),
    "device": st.sampled_from(["auto", "cpu", "cuda:1"]),
    "weight_decay": st.floats(0, 1),
}
#: Values that depend on others.
DEPENDENT = {"end_weights", "weight_schedule", "relative_to", "reference"}


def values(hint: Any, name: str) -> st.SearchStrategy[Any]:
    """Return values of a field."""
    if name in NUMBERS:
        return NUMBERS[name]
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_args(hint):  # a name, or the user's own
        return values(get_args(hint)[0], name)
    return {int: st.integers(1, 1000), float: st.floats(1e-6, 0.99), bool: st.booleans()}[hint]


def sections(kind: type, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return sections of a kind."""
    hints = get_type_hints(kind)
    named = {
        f.name: values(hints[f.name], f.metadata.get("option", f.name))
        for f in fields(kind)
        if f.name not in DEPENDENT and f.name not in given
    }
    return st.builds(kind, **named, **given)


def scheduled(objective: RelationalObjective) -> RelationalObjective:
    return replace(objective, end_weights=(0.2, 0.2, 0.6), weight_schedule="cosine")


relational = sections(RelationalObjective, search=sections(NeighborSearch))
configurations = st.builds(
    TrainConfig,
    objective=relational | relational.map(scheduled) | sections(ContrastiveObjective),
    pretext=st.one_of(*(sections(kind) for kind in KINDS["pretext"].values())),
    network=sections(ConvNet),
    optim=sections(Optim),
    seed=NUMBERS["seed"],
    device=NUMBERS["device"],
    precision=st.sampled_from(["32", "bf16"]),
) | st.builds(TrainConfig, network=sections(Backbone), optim=sections(Optim))


@settings(deadline=None)
@given(configurations)
def test_configuration_survives_json(config):
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@settings(deadline=None)
@given(configurations, configurations)
def test_configuration_survives_its_options(config, other):
    assert configure(base=config) == config
    options = flatten(config)
    assert flatten(config.to_dict()).keys() == options.keys()
    # `None` counts as not given: clusters of the contrastive objective have another default, and
    # a base may have weights that move.
    if options["clusters"] is not None:
        assert configure(options) == config
        assert configure(json.loads(json.dumps(config.to_dict()))) == config
        assert configure(options, recipe="nearfar").optim == config.optim
    assert configure({"optim": config.to_dict()["optim"]}, base=other).optim == config.optim


@pytest.mark.parametrize(
    "option", list(train_options()), ids=lambda o: f"{o.section.__name__}.{o.name}"
)
def test_every_option_can_be_given_by_name_and_reads_back(option):
    special = {
        "end_weights": {"weight_schedule": "linear", "end_weights": (0.6, 0.2, 0.2)},
        "weight_schedule": {"end_weights": (0.6, 0.2, 0.2), "weight_schedule": "cosine"},
        "loss_weights": {"loss_weights": (0.6, 0.2, 0.2)},
        "hidden": {"batch_norm": True, "hidden": 7},
        "reference_weights": {"reference": "timm:resnet18", "reference_weights": "file"},
        "reference": {"reference": "timm:resnet18"},
        "backbone": {"backbone": "timm:resnet50"},
        "widths": {"widths": (3, 4)},
        "clusters": {"clusters": 9},
        "device": {"device": "cuda"},
        "weights": {"weights": "kmeans"},
        "bank": {"bank": "disk"},
    }
    given = special.get(option.name) or {option.name: other_value(option)}
    kind = getattr(option.section, "kind", "relational")
    for section, kinds in KINDS.items():
        if kind in kinds:
            given = {section: kind, **given}
    if kind == "backbone":
        given.setdefault("backbone", "timm:resnet18")
    config = configure(given)
    (home,) = (
        each
        for each in (
            config,
            config.optim,
            config.objective,
            config.pretext,
            config.network,
            getattr(config.objective, "search", None),
        )
        if isinstance(each, option.section)
    )
    assert getattr(home, option.field) == given[option.name] != option.default
    assert flatten(config)[option.name] == given[option.name]


def other_value(option):
    """Return a value that is not the default."""
    hint = option.hint
    while get_origin(hint) is not Literal and get_args(hint):
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return next(value for value in get_args(hint) if value != option.default)
    return {bool: True, int: 3, float: 0.123}[hint]


# --- options that do not fit ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (
            {"temperature": 0.1},
            "temperature=0.1 belongs to objective contrastive, and the "
            "objective is relational: choose that objective, or leave out temperature",
        ),
        (
            {"objective": "contrastive", "loss_weights": (0.6, 0.2, 0.2)},
            "loss_weights=.* objective relational",
        ),
        ({"objective": "contrastive", "finder": "exact"}, "finder=exact belongs to .* relational"),
        ({"objective": "contrastive", "reference": "timm:resnet18"}, "reference=timm:resnet18"),
        ({"objective": "contrastive", "relative_to": "image"}, "relative_to=image"),
        ({"augmentation": "none"}, "augmentation=none belongs to objective contrastive"),
        ({"identity_prob": 0.3}, "identity_prob=0.3"),
        ({"noise": "gaussian"}, "noise=gaussian belongs to pretext denoising"),
        ({"pretext": "denoising", "holes": "center"}, "holes=center belongs to pretext inpainting"),
        (
            {"backbone": "timm:resnet18", "batch_norm": True},
            "batch_norm=True belongs to network convnet",
        ),
        ({"weights": "kmeans"}, "weights=kmeans belongs to network backbone"),
        (
            {"network": "convnet", "backbone": "timm:resnet18"},
            "backbone=timm:resnet18 belongs to network",
        ),
        ({"network": "backbone"}, "expected the option backbone"),
        ({"pretext": "rotation"}, "pretext='rotation': expected plain or denoising"),
        ({"objective": ["relational"]}, "objective=.*expected relational or contrastive"),
        ({"epoch": 3}, "epoch=3: there is no such option"),
        ({"optim": {"epoch": 3}}, "epoch=3: there is no such option"),
        ({"lr": {"a": 1}}, "lr=.*expected a number"),
    ],
    ids=str,
)
def test_configure_refuses(options, culprit):
    with pytest.raises(NearfarError, match=culprit) as caught:
        configure(options)
    assert "\n" not in str(caught.value)


def test_earlier_sources_win_and_none_is_not_given():
    config = configure({"epochs": 3, "lr": None}, {"epochs": 4, "lr": 0.5, "optim": {"seed": 9}})
    assert (config.optim.epochs, config.optim.lr, config.seed) == (3, 0.5, 9)


def test_sections_may_be_nested_as_in_the_record_of_a_run():
    nested = {
        "objective": {"kind": "relational", "neighbors": 3, "search": {"finder": "exact"}},
        "network": {"kind": "backbone", "name": "timm:resnet18"},
        "optim": {"epochs": 5},
    }
    flat = {"neighbors": 3, "finder": "exact", "backbone": "timm:resnet18", "epochs": 5}
    assert configure(nested) == configure(flat)


def test_section_whose_kind_changes_starts_from_its_defaults():
    base = recipe("nearfar", seed=3)
    changed = configure({"objective": "relational"}, base=base)
    assert changed.objective == RelationalObjective()
    assert (changed.network, changed.optim, changed.seed) == (base.network, base.optim, 3)
    backbone = configure({"backbone": "timm:resnet18"}, base=base)
    assert backbone.network == Backbone(name="timm:resnet18")
    assert configure({"backbone": "timm:resnet50"}, base=backbone).network.name == "timm:resnet50"
    assert configure({"network": "convnet"}, base=backbone).network == ConvNet()


# --- recipes -------------------------------------------------------------------------------------


def test_paper_is_the_default():
    assert recipe("paper") == TrainConfig() == configure()


def test_recipe_is_a_configuration_with_some_options_changed():
    config = recipe("nearfar", epochs=1)
    assert config.optim.epochs == 1
    assert recipe("nearfar").optim.epochs == 60
    assert config.network == ConvNet(embedding_size=256, batch_norm=True, hidden=512)
    assert config.objective == ContrastiveObjective()


def test_unknown_recipe_is_refused():
    with pytest.raises(
        NearfarError, match="recipe 'soup' is unknown: expected paper or nearfar or"
    ):
        recipe("soup")


def test_sections_hold_few_fields():
    """The largest section is smaller than what one table once held."""
    counts = {kind.__name__: len(fields(kind)) for each in KINDS.values() for kind in each.values()}
    assert max(counts.values()) <= 12
    assert len(fields(TrainConfig)) <= 8
