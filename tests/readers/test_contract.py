"""Contract of all readers: each cell of docs/readers.md holds."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from readers.table import PAGE, PROPERTIES, READERS, TO_DO, cells, rendered, split_page

CELLS = cells()


@pytest.mark.parametrize("key", CELLS, ids=lambda key: "-".join(key).replace(" ", "_"))
def test_cell_holds(key: tuple[str, str], tmp_path: Path) -> None:
    CELLS[key].case(tmp_path)


def test_no_cell_is_missing() -> None:
    missing = {key for key in product(READERS, PROPERTIES) if key not in CELLS}
    assert {reader for reader, _ in missing} <= TO_DO, sorted(missing)


def test_page_has_the_table() -> None:
    _, table, _ = split_page(PAGE.read_text(encoding="utf-8"))
    assert table == rendered(), "run make readers"
