"""Log lines of a run."""

from __future__ import annotations

import pytest

from nearfar import runs
from nearfar.errors import NearfarError


def test_log_cut_short_by_a_crash_loses_only_its_last_line(run):
    whole = runs.read_log(run)
    path = run / runs.LOG
    path.write_text(path.read_text()[:-10])
    assert runs.read_log(run) == whole[:-1]


@pytest.mark.parametrize(
    "line",
    [
        "3",
        '"x"',
        "[]",
        "null",
        '{"epoch": 1}',
        '{"phase": "pretrain"}',
        '{"phase": 3, "epoch": 1}',
        '{"phase": "pretrain", "epoch": "1"}',
        '{"phase": "pretrain", "epoch": 1, "pixel": [0.1]}',
        "[" * 100_000,
    ],
)
def test_read_log_refuses_anything_but_epochs(run, line):
    with (run / runs.LOG).open("a") as log:
        log.write(line + "\n")
    with pytest.raises(NearfarError, match=r"is damaged: log\.jsonl") as caught:
        runs.read_log(run)
    assert "\n" not in str(caught.value)


def test_evaluation_that_is_no_json_is_damaged(run):
    assert runs.read_evaluation(run) is None
    runs.write_evaluation(run, {"rows": {}})
    assert runs.read_evaluation(run) == {"rows": {}}
    (run / runs.EVALUATION).write_text("[" * 100_000)
    with pytest.raises(NearfarError, match=r"is damaged: evaluation\.json") as caught:
        runs.read_evaluation(run)
    assert "\n" not in str(caught.value)
