"""The search for open settings, and the sweep of scale, from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nearfar import runs
from nearfar.experiments import run
from nearfar.experiments.cells import Key
from nearfar.experiments.protocol import PROTOCOL
from nearfar.experiments.runner import Runner
from nearfar.experiments.scale import SCALE
from nearfar.experiments.unscaled import PRODUCTS


def test_networks_differ_between_rows_and_seeds(tmp_path):
    runner = Runner(tmp_path, "protocol", quick=True)
    table = replace(PROTOCOL, epochs=(1,))
    data = table.open(runner)

    def weights(row, seed):
        network = table.config(runner, data, Key(row, seed, 1)).network
        return network.encoder[0].weight

    assert weights("kernel=5", 0).shape[-1] == 5
    assert (weights("default", 0) == weights("default", 0)).all()
    assert (weights("default", 0) != weights("default", 1)).any()


@pytest.mark.slow
def test_protocol_measures_validation_digits(tmp_path):
    options = {"quick": True, "seeds": 1, "epochs": (1,), "rbf_samples": 200}
    text = run(PROTOCOL, tmp_path, rows=["kernel=5", "signed-pixels"], **options)
    assert "800 validation images of mnist5k:train" in text
    written = json.loads((tmp_path / "protocol.json").read_text())
    networks = [cell["settings"]["network"] for cell in written["cells"]]
    assert networks == [{"kernel": 5}, {"signed": True}]
    for cell in written["cells"]:
        assert cell["result"]["linear_svc"] > 0.5
        assert cell["result"]["total_variance"] > 0
    assert not list(tmp_path.rglob(runs.EMBEDDINGS))


@pytest.mark.slow
def test_scale_sweeps_both_rows(tmp_path):
    run(SCALE, tmp_path, quick=True, seeds=1, epochs=2, rbf_samples=500)
    written = json.loads((tmp_path / "scale.json").read_text())
    for row in ("autoencoder", "NRE"):
        swept = [written["summary"][row][f"rbf_svc_{each:g}"]["mean"] for each in PRODUCTS]
        assert max(swept) > swept[0] + 0.01, "too flat a kernel is worse"
    assert (tmp_path / "scale.png").is_file()
