"""``nearfar reproduce table3``."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from nearfar.defense import THREATS
from nearfar.experiments import table3
from nearfar.experiments.defenses import Binarizer
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


@pytest.mark.slow
def test_autoattack_on_those_that_know_of_the_defense(tmp_path):
    rows = ("no-defense", "binarization")
    call = ("reproduce", "table3", "--autoattack", "--quick", "--seeds", 1, "--rows", *rows)
    assert run(*call, "--out", tmp_path) == 0
    cells = json.loads((tmp_path / "table3-autoattack.json").read_text())["cells"]
    found = {cell["settings"]["row"]: cell["result"] for cell in cells}
    key = "white-box-aware, ε = 0.3"
    assert found["no-defense"][key] == 0
    assert found["binarization"][key] > 0.3  # digits are nearly black and white


def test_gradient_of_rounding_is_that_of_the_identity():
    images = torch.rand(2, 1, 4, 4, requires_grad=True)
    rounded = Binarizer()(images)
    assert set(rounded.detach().unique().tolist()) <= {0.0, 1.0}
    rounded.square().sum().backward()
    torch.testing.assert_close(images.grad, 2 * rounded.detach())
