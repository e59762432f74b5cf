"""Readers' table of docs/readers.md: a cell per reader and property, with a case that proves it.

Cells of a reader are functions in `readers.cells_<reader>`:

    @cell("image", "orientation", "obeyed: turned by EXIF")
    def _(folder: Path) -> None:
        ...  # build a file in the folder, read it, assert

`make readers` writes the table into docs/readers.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

#: Columns of the table.
READERS = {
    "folder": "Folder",
    "image": "Image file",
    "dicom": "DICOM",
    "frames": "Video frames",
    "manifest": "Manifest",
    "tar": "Tar shards",
    "parquet": "Parquet",
    "array": "Array file",
    "python": "Array in Python",
    "video": "Video",
    "devkit": "Devkit",
    "masks": "Masks",
    "configuration": "Configuration",
    "run": "Run folder",
}
#: Readers whose missing cells are still to be written.
TO_DO: set[str] = set()

#: Rows of the table: what a format can state or get wrong.
PROPERTIES = {
    "orientation": "Orientation",
    "size": "Size",
    "range": "Range of numbers",
    "depth": "Depth (bits, type)",
    "white point": "Black and white",
    "channels": "Channels",
    "transparency": "Transparency",
    "profile": "Color profile",
    "count": "Number of images",
    "time": "Time",
    "rate": "Rate",
    "order": "Order",
    "pairing": "Pairing, labels",
    "names": "Names",
    "encoding": "Encoding of text, byte order",
    "root": "Root, kind of content",
    "length": "Length",
    "nan": "NaN, infinity",
    "unused": "Content not read",
}

#: First word of a cell.
VERDICTS = ("obeyed", "rejected", "skipped", "counted", "warned", "ignored", "none")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "readers.md"
BEGIN, END = "<!-- table: make readers -->\n", "<!-- end of table -->\n"


@dataclass(frozen=True)
class Cell:
    """What a reader does about a property, and the case that proves it."""

    reader: str
    property: str
    answer: str
    case: Callable[[Path], None]


_CELLS: dict[tuple[str, str], Cell] = {}


def cell(
    reader: str, prop: str, answer: str
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register a case for a cell: a function of an empty folder that asserts the answer."""
    assert reader in READERS, reader
    assert prop in PROPERTIES, prop
    assert answer.split()[0].rstrip(":,;") in VERDICTS, answer
    assert (reader, prop) not in _CELLS, f"two cells for {reader}, {prop}"

    def register(case: Callable[[Path], None]) -> Callable[[Path], None]:
        _CELLS[reader, prop] = Cell(reader, prop, answer, case)
        return case

    return register


def cells() -> dict[tuple[str, str], Cell]:
    """Return all cells by reader and property."""
    for reader in READERS:
        if find_spec(f"readers.cells_{reader}"):
            importlib.import_module(f"readers.cells_{reader}")
    return _CELLS


def rendered() -> str:
    """Return the table as Markdown."""
    known = cells()
    lines = [
        f"| | {' | '.join(READERS.values())} |",
        f"|---|{'---|' * len(READERS)}",
    ]
    for prop, title in PROPERTIES.items():
        answers = [known[r, prop].answer if (r, prop) in known else "to do" for r in READERS]
        lines.append(f"| **{title}** | {' | '.join(answers)} |")
    return "\n".join(lines) + "\n"


def split_page(text: str) -> tuple[str, str, str]:
    """Split the page into the text before the table, the table, and the text after it."""
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    return before + BEGIN, table, END + after


if __name__ == "__main__":
    from readers.table import rendered as current  # the registry of the imported module

    before, _, after = split_page(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + current() + after, encoding="utf-8")
