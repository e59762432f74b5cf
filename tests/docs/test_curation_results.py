"""The tables of docs/results/curation.md are those of the figures in benchmarks/results.json."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.curate import tables

ROOT = Path(__file__).resolve().parents[2]


def test_tables_are_those_of_the_figures() -> None:
    results = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    parts = ("duplicates", "label-errors", "selection")
    figures = {name: value for part in parts for name, value in results[part]["figures"].items()}
    document = (ROOT / "docs/results/curation.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in tables(figures) if line not in document] == []
