"""Reference pages: all public names, and every parameter with its true default."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from docstring_parser import parse_from_object

import nearfar
from nearfar import config

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = [kind for kinds in config.KINDS.values() for kind in kinds.values()]
DESCRIBED = [
    nearfar.NRE,
    nearfar.train,
    nearfar.TrainConfig,
    config.NeighborSearch,
    config.Optim,
    *SECTIONS,
]


def entries(page: str) -> list[str]:
    return re.findall(r"^::: (\S+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)


def test_reference_has_every_top_level_name() -> None:
    listed = {entry.rpartition(".")[2] for entry in entries("reference.md")}
    assert listed == {name for name in nearfar.__all__ if not name.startswith("__")}


def test_configuration_page_has_every_section() -> None:
    listed = {entry.rpartition(".")[2] for entry in entries("api/config.md")}
    assert listed >= {kind.__name__ for kind in (*SECTIONS, config.NeighborSearch, config.Optim)}


@pytest.mark.parametrize("documented", DESCRIBED, ids=lambda each: each.__name__)
def test_every_parameter_is_described(documented: Any) -> None:
    described = [
        name
        for parameter in parse_from_object(documented).params
        if parameter.args[0] == "param"
        for name in parameter.arg_name.split(", ")
    ]
    assert sorted(described) == sorted(inspect.signature(documented).parameters)


def test_reference_shows_defaults_of_signatures() -> None:
    griffe = pytest.importorskip("griffe")
    package = griffe.load(
        "nearfar",
        search_paths=[ROOT / "src"],
        docstring_parser="numpy",
        extensions=griffe.load_extensions("dataclasses", str(ROOT / "docs/griffe_numpydoc.py")),
    )
    for place, documented in (("estimator.NRE", nearfar.NRE), ("config.optim.Optim", config.Optim)):
        sections = package[place].docstring.parsed
        shown = next(each.value for each in sections if each.kind.value == "parameters")
        defaults = {each.name: str(each.default) for each in shown}
        signature = inspect.signature(documented).parameters
        assert defaults.keys() == signature.keys()
        for name, parameter in signature.items():
            assert eval(defaults[name]) == parameter.default  # noqa: S307 - text of our own


def test_contributing_lists_every_package() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text()
    for path in (ROOT / "src" / "nearfar").iterdir():
        if not path.name.startswith(("_", ".")) and path.suffix in ("", ".py"):
            name = path.name if path.suffix else f"{path.name}/"
            assert re.search(rf"^  {re.escape(name)} ", tree, re.MULTILINE), f"no {name}"
