"""docs/extending.md: its examples run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def test_examples_run_in_order(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 9
    assert max(len(block.strip().splitlines()) for block in blocks) <= 33
    namespace = {"__name__": "extending"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)  # noqa: S102 - our own page
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "NRE (120, 128)"
    assert said[5].startswith("Slowness ")
    assert said[6] == "[1, 1, 2]"
    assert said[7] == "(7, 128)"
    assert said[8] == "Slowness Recorded(name='extending.Slowness')"
    assert namespace["again"].objective is namespace["Slowness"]
    assert list(tmp_path.iterdir()) == []
