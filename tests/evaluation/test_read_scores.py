"""`read_scores`: an evaluation that is not as it was written is damaged."""

from __future__ import annotations

import pytest

from nearfar import runs
from nearfar.errors import NearfarError
from nearfar.evaluation import read_scores


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "3",
        '{"columns": {"knn": "k-NN"}, "rows": {"NRE": {"knn": 0}}, "settings": {}, "notes": []}',
        '{"columns": {"knn": "k-NN"}, "rows": {"NRE": {"knn": {"mean": "a"}}}, "settings": {}, '
        '"notes": []}',
        "[" * 100_000,
    ],
)
def test_read_scores_refuses_scores_of_another_form(tmp_path, text):
    (tmp_path / runs.EVALUATION).write_text(text)
    with pytest.raises(NearfarError, match=r"is damaged: evaluation\.json") as caught:
        read_scores(tmp_path)
    assert "\n" not in str(caught.value)
