"""``nearfar reproduce table3``."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from nearfar.defense import THREATS
from nearfar.experiments import table3
from program import run

pytest.importorskip("art", reason="the extra `defense` is not installed")


@pytest.mark.slow
def test_table3(tmp_path):
    assert run("reproduce", "table3", "--out", tmp_path, "--quick", "--seeds", 1) == 0
    written = json.loads((tmp_path / "table3.json").read_text())
    assert list(written["summary"]) == list(table3.ROWS)
    for cell in written["cells"]:
        result = cell["result"]
        threats = [f"{threat}, ε = {each:g}" for threat in THREATS for each in table3.EPSILONS]
        assert all(0 <= result[key] <= 1 for key in threats)
        rejects = table3.ROWS[cell["settings"]["row"]].detectors
        assert result["clean, rejected"] < (0.05 if rejects else 1e-9)
    bare = written["cells"][0]["result"]
    assert bare["white-box-unaware, ε = 0.3"] < bare["transfer, ε = 0.3"] < bare["clean"]
    text = (tmp_path / "table3.md").read_text()
    assert "(98.0)" in text
    assert "(92.4)" in text
    for name in ("table3.png", "figure5.png"):
        assert Image.open(tmp_path / name).size[0] > 500
    assert len(list((tmp_path / "classifiers").glob("*.safetensors"))) == 4
