"""Paths are accepted as text by every public function."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nearfar

#: Parameters whose values nearfar makes itself: folders for methods and callbacks that it calls,
#: and what it returns.
MADE_HERE = {
    *("Method.read", "Method.write", "PatchEncoder.read", "PatchEncoder.write"),
    *("FitContext.__init__", "Context.__init__", "Run.__init__", "RunFolder.__init__"),
    *("EmbeddingParts.__init__", "Masks.__init__", "FolderImages.__init__", "Devkit.__init__"),
    "FileItem.__init__",
}


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions and methods that are public, by name."""
    for module in pkgutil.walk_packages(nearfar.__path__, "nearfar."):
        # Users do not call these; `nearfar.files` gets paths that its callers have made.
        if module.name.startswith(
            ("nearfar.cli", "nearfar.experiments", "nearfar.__main__", "nearfar.files")
        ):
            continue
        package = importlib.import_module(module.name)
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            if inspect.isclass(value):
                for key in dir(value):
                    attribute = inspect.getattr_static(value, key)
                    method = getattr(attribute, "__func__", attribute)
                    if inspect.isfunction(method) and (key == "__init__" or key[0] != "_"):
                        yield method.__qualname__, inspect.unwrap(method)
            elif inspect.isfunction(value):
                yield name, inspect.unwrap(value)


def takes_only_path(annotation: object) -> bool:
    text = str(annotation)
    return "Path" in text.replace("PathLike", "")


def test_every_path_may_be_text() -> None:
    method = importlib.import_module("nearfar.anomaly").Method
    implementations = {
        f"{each.__name__}.{name}" for each in method.__subclasses__() for name in ("read", "write")
    }
    narrow = {
        f"{name}: {parameter}"
        for name, function in public_functions()
        for parameter in inspect.signature(function).parameters.values()
        if takes_only_path(parameter.annotation) and name not in MADE_HERE | implementations
    }
    assert not narrow, sorted(narrow)


@pytest.mark.parametrize("kind", ["text", "Path"])
def test_devkit_takes_a_path_as_text(kind: str, tmp_path: Any) -> None:
    from nearfar.transfer import Devkit

    devkit = Devkit(str(tmp_path) if kind == "text" else tmp_path, ("background", "cat"))
    assert devkit.image("1").parent == tmp_path / "JPEGImages"
