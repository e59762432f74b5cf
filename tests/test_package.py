"""The package as a whole: public names, their examples, imports between packages, and types."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

import nearfar

SOURCE = Path(nearfar.__file__).parent
PACKAGES = sorted(
    ".".join(("nearfar", *path.parent.relative_to(SOURCE).parts))
    for path in SOURCE.rglob("__init__.py")
    if path.parent != SOURCE
)
#: Packages that may look inside others: the command line imports one table at a time, to show its
#: help quickly; ablations change parts of the built-in methods.
MAY_LOOK_INTO = {"cli": "nearfar.experiments", "experiments": "nearfar.anomaly.methods"}

# --- public names --------------------------------------------------------------------------------


def test_top_level_names_are_few_and_importable():
    assert len(nearfar.__all__) <= 12
    assert nearfar.__all__ == sorted(nearfar.__all__)
    for name in nearfar.__all__:
        assert getattr(nearfar, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        nearfar.fit  # noqa: B018


def test_import_of_the_package_is_quick():
    """Names are imported on first use: torch takes seconds."""
    program = "import sys, nearfar; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_lists_its_public_names(package):
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(module, name), name


def documented(package: str) -> list[tuple[str, object]]:
    """Return the public classes and functions; constants and type aliases have no docstrings."""
    module = importlib.import_module(package)
    named = [(name, getattr(module, name)) for name in getattr(module, "__all__", [])]
    return [
        (name, each) for name, each in named if inspect.isclass(each) or inspect.isroutine(each)
    ]


@pytest.mark.parametrize("package", ["nearfar", *PACKAGES])
def test_every_public_name_has_an_example(package):
    missing = [
        name
        for name, each in documented(package)
        if "Examples\n" not in (inspect.getdoc(each) or "") or ">>> " not in inspect.getdoc(each)
    ]
    assert not missing


# --- imports -------------------------------------------------------------------------------------


@cache
def listed(module: str) -> frozenset[str]:
    """Return the public names of a package, without importing it."""
    path = SOURCE.parent.joinpath(*module.split("."), "__init__.py")
    if not path.is_file():
        return frozenset()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def foreign_imports(path: Path) -> list[str]:
    """Return imports of modules inside other packages: only their `__init__` is public."""
    own = path.relative_to(SOURCE).parts[0]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [alias.name for alias in node.names if alias.name not in listed(node.module)]
            modules = [node.module, *(f"{node.module}.{name}" for name in names)]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            top, *parts = module.split(".")
            if top != "nearfar" or len(parts) < 2 or parts[0] == own or listed(module):
                continue
            if module.startswith(MAY_LOOK_INTO.get(own, module + ".")):
                continue
            inner = SOURCE.joinpath(*parts)
            if inner.with_suffix(".py").is_file() or (inner / "__init__.py").is_file():
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno} {module}")
    return found


@pytest.mark.parametrize("package", sorted({p.split(".")[1] for p in PACKAGES} | {""}))
def test_packages_import_packages_not_their_modules(package):
    paths = (SOURCE / package).rglob("*.py") if package else SOURCE.glob("*.py")
    assert not [each for path in sorted(paths) for each in foreign_imports(path)]


# --- the wheel -----------------------------------------------------------------------------------


def test_wheel_holds_types_and_nothing_but_the_package(tmp_path):
    assert (SOURCE / "py.typed").is_file()
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    targets = project["tool"]["hatch"]["build"]["targets"]
    assert targets == {"wheel": {"packages": ["src/nearfar"]}}, "with all that is in it"
    wheel = pytest.importorskip("hatchling.builders.wheel")
    builder = wheel.WheelBuilder(str(SOURCE.parents[1]))
    (built,) = builder.build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as file:
        names = file.namelist()
    assert "nearfar/py.typed" in names
    assert "nearfar/training/objectives/base.py" in names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"nearfar"}
