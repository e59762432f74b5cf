"""What the documents say was measured is what the commands beside it draw from `results`."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from program import run

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
PAGES = sorted((ROOT / "docs" / "results").glob("*.md"))
DOCUMENT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def commands() -> Iterator[list[str]]:
    """The commands that are shown above a table whose cells are kept."""
    for block in re.findall(r"```console\n(.*?)```", DOCUMENT, re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            words = shlex.split(line.removeprefix("$ nearfar "))
            if "--seeds" in words and (RESULTS / words[words.index("--out") + 1]).is_dir():
                yield words


def test_all_results_are_documented():
    drawn = {words[words.index("--out") + 1] for words in commands()}
    assert drawn == {path.name for path in RESULTS.iterdir()}


@pytest.mark.parametrize("words", [*commands()], ids=lambda words: " ".join(words[1:]))
def test_tables_in_the_documents_are_those_of_the_cells(words, data_root, tmp_path):
    name = words[words.index("--out") + 1]
    out = shutil.copytree(RESULTS / name, tmp_path / name)
    before = sorted(out.rglob("*"))
    places = {"data": data_root, name: out}
    assert run(*(places.get(word, word) if i > 1 else word for i, word in enumerate(words))) == 0
    (table,) = out.glob("*.md")
    written, documented = table.read_text().splitlines(), DOCUMENT.splitlines()
    assert [line for line in written if line.startswith("|") and line not in documented] == []
    assert {path.parent.name for path in set(out.rglob("*")) - set(before)} <= {name}, (
        "all was measured before"
    )
