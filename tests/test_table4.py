"""Table 4 on two real clips of each kind, and what is said where the data are missing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nearfar.anomaly.clips import open_clips
from nearfar.errors import NearfarError
from nearfar.report.figures.anomaly import clip_scores, roc_curves
from nearfar.reproduce.table4 import FOLDER, ROWS, table4


@pytest.mark.slow
def test_the_quick_form(data_root, tmp_path):
    if not (data_root / FOLDER).is_dir():
        pytest.skip(f"no {data_root / FOLDER}")
    rows = ("autoencoder", "tempo-unsmoothed", "tempo")
    text = table4(tmp_path / "out", data_root=data_root, seeds=1, rows=rows, quick=True)
    for row in rows:
        assert f"| {row} |" in text
    written = json.loads((tmp_path / "out" / "table4.json").read_text())
    test = open_clips(data_root / FOLDER / "Test")[:2]
    for cell in written["cells"]:
        result = cell["result"]
        assert result["frames"] == sum(clip.total for clip in test) == 360
        assert all(np.isfinite(c["scores"]).all() for c in result["clips"].values())
        assert 0 <= result["eer"] <= 1
    assert (tmp_path / "out" / "table4.png").is_file()
    assert (tmp_path / "out" / "clips-tempo.png").is_file()
    again = table4(tmp_path / "out", data_root=data_root, seeds=1, rows=rows, quick=True)
    assert again == text


def test_missing_data_and_unknown_rows_are_named(tmp_path):
    with pytest.raises(NearfarError, match="does not exist"):
        table4(tmp_path / "out", data_root=tmp_path)
    with pytest.raises(NearfarError, match="'MDT' is unknown"):
        table4(tmp_path / "out", rows=["MDT"])


def test_the_codes_row_shares_the_network_of_its_nre_row():
    assert ROWS["codes"].training is ROWS["NRE-0.6-0.4-0"].training


def test_abnormal_spans_are_shaded_where_they_are():
    clips = {
        "a": {"scores": [0, 1, 2, 3, 4], "abnormal": [False, True, True, False, True]},
        "b": {"scores": [1, 2], "abnormal": [False, False]},
    }
    first, second, _ = clip_scores(clips).axes
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in first.patches]
    assert spans == [(0.5, 2.5), (3.5, 4.5)]
    assert not second.patches
    curve = np.array([0.0, 0.5, 1.0])
    assert len(roc_curves({"a": (curve, curve), "b": (curve, curve)}).axes[0].lines) == 3
