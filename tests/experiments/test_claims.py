"""The claims, and their tests."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar.data import ArrayImages, Subset
from nearfar.evaluation import scores
from nearfar.experiments import claims
from nearfar.experiments.cells import Key, Results
from nearfar.experiments.metrics import task_on
from program import run


@pytest.fixture
def images(digits, digit_labels):
    return ArrayImages(digits[:300, None], digit_labels[:300])


def test_true_class_probabilities_are_those_of_each_test_alone(images):
    task = task_on(torch.nn.Flatten(), images, Subset(images, range(100)), seed=0)
    darker = task.test / 2
    one, other = claims._true_class_probabilities(task, [task.test, darker])
    assert claims._true_class_probabilities(task, [task.test]) == pytest.approx([one])
    assert claims._true_class_probabilities(task, [darker]) == pytest.approx([other])
    assert one > other


@pytest.mark.parametrize(
    ("related", "alone", "expected"),
    [
        ([0.9, 0.91, 0.92], [0.8, 0.81, 0.825], "yes"),
        ([0.8, 0.81, 0.825], [0.9, 0.91, 0.92], "no"),
        ([0.9], [0.8], "undecided"),
    ],
)
def test_judge_claims(related, alone, expected):
    measured = {
        Key("claims", seed): {
            "result": {
                "distance_X": 1 - related[seed],
                "distance_near": 1 - related[seed],
                "distance_far": 1 - alone[seed],
                "probability_related": related[seed],
                "probability_alone": alone[seed],
                "noisy_probability_related": related[seed],
                "noisy_probability_alone": alone[seed],
                "pixel_error_before": 0.1,
                "pixel_error_related": related[seed],
                "pixel_error_alone": alone[seed],
            }
        }
        for seed in range(len(related))
    }
    verdicts = claims.judge_claims(Results(measured), "claims")
    assert [verdict.holds for verdict in verdicts[:3]] == [expected] * 3
    # 0.9 and 0.8 are within a quarter of each other, in either order.
    assert verdicts[3].holds == ("undecided" if len(related) == 1 else "yes")


def test_about_equal_rejects_errors_outside_the_margin():
    assert claims._about_equal([0.13, 0.131, 0.129], [0.1, 0.1, 0.1]) > 0.9
    assert claims._about_equal([0.1, 0.1, 0.101], [0.13, 0.131, 0.129]) > 0.9


@pytest.mark.slow
def test_claims(tmp_path):
    assert run("reproduce", "claims", "--out", tmp_path, "--quick") == 0
    written = json.loads((tmp_path / "claims.json").read_text())
    assert written["settings"]["probe"]["C"] == scores.PROBE_C
    assert [list(claim)[-2:] for claim in written["summary"].values()] == [["p", "holds"]] * 4
    results = [cell["result"] for cell in written["cells"]]
    assert len(results) == 2
    for result in results:
        assert result["distance_far"] > result["distance_near"] > 0
        assert all(0.08 < value < 1 for name, value in result.items() if "probability" in name)
    assert np.asarray(Image.open(tmp_path / "claims.png").convert("L")).std() > 1
