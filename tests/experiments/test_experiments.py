"""Reproduction of tables: cell by cell, interrupted and continued; what each command writes."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nearfar.training.loop import Interrupted
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import ttest_1samp

from nearfar import runs
from nearfar.cli import reproduce as cli_reproduce
from nearfar.data import ArrayImages, FolderImages, Subset, read_image
from nearfar.errors import NearfarError
from nearfar.evaluation import scores
from nearfar.experiments import ablation, claims, defenses, detectors, recipes, table1, table2
from nearfar.experiments.configs import plain, relational
from nearfar.experiments.digits import for_testing, for_validation
from nearfar.experiments.metrics import Classifiers, network_after, pixel_error, task_on
from nearfar.experiments.runner import Cell, Reproduction, fingerprint, training_seconds
from nearfar.experiments.statistics import PIXELS, p_greater, percent, seeds_note, spread
from nearfar.experiments.synthetic_voc import write_classes
from nearfar.models import Architecture
from nearfar.training.train import train
from program import run

SPAWN = multiprocessing.get_context("spawn")
SMALL = {"batch_size": 64, "embedding_size": 12, "device": "cpu"}


@pytest.fixture
def images(digits, digit_labels):
    return ArrayImages(digits[:300, None], digit_labels[:300])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class StopAt:
    """A `Track` that interrupts the process, as Ctrl-C would, at one of the training steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, items, description, total):
        for item in items:
            if description in ("pretrain", "relational"):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)
            yield item


# --- snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_is_the_network_of_a_shorter_training(tmp_path, images):
    train(images, plain(4, **SMALL), folder=tmp_path / "long", snapshots=[1, 2, 4])
    short = train(images, plain(2, **SMALL), folder=tmp_path / "short").autoencoder.state_dict()
    snapshot = runs.read_snapshot(tmp_path / "long", 2).state_dict()
    last = runs.read_snapshot(tmp_path / "long", 4).state_dict()
    assert all(torch.equal(snapshot[name], short[name]) for name in short)
    assert not all(torch.equal(last[name], short[name]) for name in short)
    with pytest.raises(NearfarError, match="no snapshot after 3 epochs"):
        runs.read_snapshot(tmp_path / "long", 3)


def test_a_snapshot_stays_when_training_stops_later(tmp_path, images):
    config = plain(4, **SMALL)  # five steps an epoch
    train(images, config, folder=tmp_path / "whole", snapshots=[2])
    with pytest.raises(Interrupted):
        train(images, config, folder=tmp_path / "run", snapshots=[2], track=StopAt(12))
    whole, stopped = (
        runs.read_snapshot(tmp_path / name, 2).state_dict() for name in ("whole", "run")
    )
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_a_snapshot_is_written_of_a_network_in_another_layout(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), dtype=np.uint8)
    trained = train(ArrayImages(images), plain(1, **SMALL), folder=tmp_path / "run")
    weights = trained.autoencoder.to(memory_format=torch.channels_last).state_dict()
    assert not all(tensor.is_contiguous() for tensor in weights.values())
    runs.write_snapshot(tmp_path / "run", 1, weights)
    found = runs.read_snapshot(tmp_path / "run", 1).state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_snapshots_count_the_epochs_of_both_phases(tmp_path, images):
    trained = train(images, relational(3, **SMALL), folder=tmp_path / "run", snapshots=[2, 3])
    for epochs, network in ((2, trained.pretrained), (3, trained.autoencoder)):
        found = runs.read_snapshot(tmp_path / "run", epochs).state_dict()
        assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


# --- the engine ----------------------------------------------------------------------------------


def counting(results: list[str], name: str, **settings: Any) -> Cell:
    def measure() -> dict[str, Any]:
        results.append(name)
        return {"value": len(results)}

    return Cell(name, settings, measure)


def test_a_cell_is_measured_once(tmp_path):
    done: list[str] = []
    for seeds in (1, 3):
        cells = [counting(done, f"cell-{seed}", seed=seed) for seed in range(seeds)]
        measured = Reproduction(tmp_path / "out", "table", {"epochs": (4,)}).measure(cells)
    assert done == ["cell-0", "cell-1", "cell-2"]
    assert [measured[f"cell-{seed}"]["result"]["value"] for seed in range(3)] == [1, 2, 3]
    assert measured["cell-0"]["environment"]["torch"] == version("torch")


def noting(folder: Path, name: str, **choices: Any) -> Cell:
    """A cell that takes a moment, and notes who measured it from when to when."""

    def measure() -> dict[str, Any]:
        began = time.monotonic()
        time.sleep(0.3)
        with (folder / "notes.txt").open("a") as notes:
            notes.write(f"{name} {os.getpid()} {began} {time.monotonic()}\n")
        return {}

    return Cell(name, {}, measure, **choices)


def measure_five(folder: Path, start: Any = None, last_for_ever: bool = False) -> None:
    """Measure a table of five cells, of which the first two need the same training."""
    if start:
        start.wait()
    cells = [
        noting(folder, number, training="run" if number in "01" else None) for number in "01234"
    ]
    if last_for_ever:
        cells[0] = Cell("0", {}, lambda: (folder / "begun").touch() or time.sleep(1e6), "run")
    Reproduction(folder / "out", "table", {}).measure(cells)


def test_processes_share_the_cells_of_a_table(tmp_path):
    start = SPAWN.Barrier(2)
    processes = [SPAWN.Process(target=measure_five, args=(tmp_path, start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    noted = [line.split() for line in (tmp_path / "notes.txt").read_text().splitlines()]
    assert sorted(name for name, *_ in noted) == list("01234"), "each is measured once"
    assert len({process for _, process, *_ in noted}) == 2, "both have measured"
    (began, ended), (again, _) = sorted(
        (float(start), float(end)) for name, _, start, end in noted if name in "01"
    )
    assert began < ended <= again, "what needs the same training is not measured at once"


def test_what_a_killed_process_was_at_is_measured_by_another(tmp_path):
    killed = SPAWN.Process(target=measure_five, args=(tmp_path, None, True))
    killed.start()
    while not (tmp_path / "begun").exists():
        assert killed.is_alive()
        time.sleep(0.02)
    other = SPAWN.Process(target=measure_five, args=(tmp_path,))
    other.start()
    while len(list((tmp_path / "out" / "cells").glob("*.json"))) < 3:
        assert other.is_alive()
        time.sleep(0.02)
    time.sleep(1)
    notes = (tmp_path / "notes.txt").read_text()
    assert not {"0", "1"} & {line[0] for line in notes.splitlines()}, "they are waited for"
    killed.kill()
    other.join()
    assert other.exitcode == 0
    assert len(list((tmp_path / "out" / "cells").glob("*.json"))) == 5


def test_a_cell_that_fails_leaves_the_others(tmp_path):
    done: list[str] = []
    cells = [counting(done, "good"), Cell("bad", {}, lambda: {"value": 1 / 0})]
    with pytest.raises(ZeroDivisionError):
        Reproduction(tmp_path / "out", "table", {}).measure(cells)
    Reproduction(tmp_path / "out", "table", {}).measure([cells[0], counting(done, "bad")])
    assert done == ["good", "bad"]


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("table", {"epochs": [40]}, r"epochs=\[4\], not \[40\]"),
        ("table", {"epochs": [4], "quick": True}, "quick=None, not True"),
        ("table", {}, r"epochs=\[4\], not None"),
        ("claims", {"epochs": [4]}, "reproduction=table, not claims"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(tmp_path, name, settings, culprit):
    Reproduction(tmp_path / "out", "table", {"epochs": [4]}).measure([])
    before = contents(tmp_path)
    with pytest.raises(NearfarError, match=culprit) as refused:
        Reproduction(tmp_path / "out", name, settings)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == before


def test_a_cell_of_another_configuration_is_refused(tmp_path):
    reproduction = Reproduction(tmp_path / "out", "table", {})
    reproduction.measure([counting([], "cell", config={"lr": 0.1, "seed": 0})])
    with pytest.raises(NearfarError, match=r"lr=0\.1, not 0\.2"):
        reproduction.measure([counting([], "cell", config={"lr": 0.2, "seed": 0})])


def test_a_choice_that_came_later_has_its_default_in_earlier_cells(tmp_path):
    saved = asdict(relational(2))
    earlier = {name: value for name, value in saved.items() if name != "relative_to"}
    reproduction = Reproduction(tmp_path / "out", "table", {})
    done: list[str] = []
    reproduction.measure([counting(done, "cell", row="NRE", config=earlier)])
    measured = reproduction.measure([counting(done, "cell", row="NRE", config=saved)])
    assert done == ["cell"]
    assert "relative_to" not in measured["cell"]["settings"]["config"], "as it was written"
    with pytest.raises(NearfarError, match="relative_to=reconstruction, not image"):
        changed = asdict(relational(2, relative_to="image"))
        reproduction.measure([counting(done, "cell", row="NRE", config=changed)])


def test_a_run_of_another_configuration_is_refused(tmp_path, images):
    reproduction = Reproduction(tmp_path / "out", "table", {})
    reproduction.train("run", images, plain(1, **SMALL), [1])
    with pytest.raises(NearfarError, match="seed=0, not 1"):
        reproduction.train("run", images, plain(1, **SMALL, seed=1), [1])


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NearfarError, match="exists already: choose another folder") as refused:
        Reproduction(tmp_path, "table", {})
    assert "--overwrite" not in str(refused.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:20],
        lambda text: "[]",
        lambda text: '{"settings": {}}',
        lambda text: text.replace('"result": {', '"result": 7, "x": {'),
    ],
    ids=["cut short", "a list", "no result", "a number for a result"],
)
def test_a_damaged_cell_is_named(tmp_path, damage):
    reproduction = Reproduction(tmp_path / "out", "table", {})
    reproduction.measure([counting([], "cell")])
    path = tmp_path / "out" / "cells" / "cell.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(NearfarError, match=r"cell\.json' is damaged"):
        reproduction.measure([counting([], "cell")])


@pytest.mark.parametrize("step", [1, 7, 12, 18, 20])
def test_a_training_continues_where_it_was(tmp_path, images, step):
    config = relational(4, **SMALL)  # five steps an epoch

    def weights(name: str, track: Any) -> dict[str, torch.Tensor]:
        reproduction = Reproduction(tmp_path / name, "table", {}, track=track)
        reproduction.measure([])
        folder = reproduction.train("run", images, config, [4])
        return load_file(folder / runs.SNAPSHOTS / "4.safetensors")

    whole = weights("whole", StopAt(-1))
    with pytest.raises(Interrupted):
        weights("halved", StopAt(step))
    counted = StopAt(-1)
    continued = weights("halved", counted)
    assert -1 - counted.left == 20 - step, "steps already done are not done again"
    assert all(torch.equal(continued[name], whole[name]) for name in whole)
    again = StopAt(-1)
    weights("halved", again)
    assert again.left == -1, "a finished run is not trained again"


def timeless(folder: Path) -> list[dict[str, float]]:
    lines = runs.read_log(folder)
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


@pytest.mark.parametrize("first", [plain(4, **SMALL), relational(4, **SMALL, neighbors=3)])
@pytest.mark.parametrize("step", [-1, 8])
def test_runs_that_begin_alike_are_pretrained_once(tmp_path, images, first, step):
    """Five steps an epoch, of which the last ten are the run's own."""
    config = relational(4, **SMALL, lr=1e-3)
    alone = train(images, config, folder=tmp_path / "alone", snapshots=[2, 4])
    reproduction = Reproduction(tmp_path / "out", "table", {})
    reproduction.train("first", images, first, [2, 4])
    if step > 0:
        reproduction.track = StopAt(step)
        with pytest.raises(Interrupted):
            reproduction.train("run", images, config, [2, 4])
    reproduction.track = counted = StopAt(-1)
    folder = reproduction.train("run", images, config, [2, 4])
    assert -1 - counted.left == 10 - max(step, 0)
    for epochs, network in ((2, alone.pretrained), (4, alone.autoencoder)):
        found = network_after(folder, epochs).state_dict()
        assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
    saved, saved_alone = (load_file(run / runs.MODEL) for run in (folder, tmp_path / "alone"))
    assert all(torch.equal(saved[name], value) for name, value in saved_alone.items())
    if step < 0:
        assert timeless(folder) == timeless(tmp_path / "alone")
    assert training_seconds(folder, 4) > training_seconds(folder, 2) > 0


@pytest.mark.parametrize(
    "choices",
    [
        {"seed": 1},
        {"pretext": "denoising"},
        {"pretrain_lr": 2e-3},
        {"lr_schedule": "one-cycle"},
    ],
    ids=str,
)
def test_what_begins_otherwise_is_pretrained_by_itself(tmp_path, images, choices):
    rates = {name: choices[name] for name in choices if name == "lr_schedule"}
    reproduction = Reproduction(tmp_path / "out", "table", {})
    reproduction.train("plain", images, plain(3, **SMALL | rates), [1, 3])
    folder = reproduction.train("run", images, relational(2, **SMALL | choices), [2])
    alone = train(images, relational(2, **SMALL | choices)).autoencoder.state_dict()
    found = network_after(folder, 2).state_dict()
    assert all(torch.equal(found[name], value) for name, value in alone.items())
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 3


def test_other_images_are_pretrained_on_by_themselves(tmp_path, images):
    reproduction = Reproduction(tmp_path / "out", "table", {})
    reproduction.train("plain", images, plain(1, **SMALL), [1])
    some = Subset(images, range(299))
    folder = reproduction.train("run", some, relational(2, **SMALL), [2])
    alone = train(some, relational(2, **SMALL)).autoencoder.state_dict()
    found = network_after(folder, 2).state_dict()
    assert all(torch.equal(found[name], value) for name, value in alone.items())


def test_the_seconds_of_a_cell_have_all_of_its_trainings(tmp_path, images):
    class Slowly(StopAt):
        """Takes half a second for a step, of five an epoch, and stops."""

        def __call__(self, items, description, total):
            for item in super().__call__(items, description, total):
                time.sleep(0.5 if description == "pretrain" else 0)
                yield item

    def measure() -> dict[str, float]:
        folder = reproduction.train("run", images, relational(2, **SMALL), [2])
        return {"training_seconds": training_seconds(folder, 2)}

    reproduction = Reproduction(tmp_path / "out", "table", {}, track=Slowly(4))
    cell = Cell("cell", {}, measure)
    with pytest.raises(Interrupted):
        reproduction.measure([cell])
    reproduction.track = Slowly(-1)
    measured = reproduction.measure([cell])["cell"]
    assert 2.5 < measured["result"]["training_seconds"] <= measured["seconds"] < 5


def train_beside(folder: Path, start: Any, digits: Any, neighbors: int) -> None:
    start.wait()
    config = relational(4, **SMALL, neighbors=neighbors)
    Reproduction(folder, "table", {}).train(f"run-{neighbors}", ArrayImages(digits), config, [4])


def test_processes_pretrain_once_together(tmp_path, digits):
    Reproduction(tmp_path, "table", {}).measure([])
    start = SPAWN.Barrier(2)
    processes = [
        SPAWN.Process(target=train_beside, args=(tmp_path, start, digits[:300, None], neighbors))
        for neighbors in (1, 2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    logs = [runs.read_log(run) for run in (tmp_path / "runs").iterdir()]
    assert len(logs) == 3
    assert len({json.dumps(log[:2]) for log in logs}) == 1, (
        "the same pre-training, second by second"
    )


def test_an_interrupted_training_of_another_configuration_is_refused(tmp_path, images):
    reproduction = Reproduction(tmp_path / "out", "table", {}, track=StopAt(7))
    with pytest.raises(Interrupted):
        reproduction.train("run", images, plain(2, **SMALL), [2])
    with pytest.raises(NearfarError, match=r"pretrain_lr=0\.001, not 0\.01"):
        reproduction.train("run", images, plain(2, **SMALL, pretrain_lr=0.01), [2])


def test_a_training_killed_before_its_first_checkpoint_begins_again(tmp_path, images):
    reproduction = Reproduction(tmp_path / "out", "table", {})
    folder = tmp_path / "out" / "runs" / "run"
    folder.mkdir(parents=True)
    (folder / f"{runs.CONFIG}.part").touch()
    reproduction.train("run", images, plain(1, **SMALL), [1])
    assert network_after(folder, 1)


def test_a_fingerprint_sees_every_pixel_and_label(images):
    found = fingerprint(images)
    assert found["images"] == 300
    rows = np.arange(300)
    assert fingerprint(Subset(images, rows))["sha256"] == found["sha256"]
    assert fingerprint(Subset(images, rows[::-1].copy()))["sha256"] != found["sha256"]
    changed = images.batch(rows).clone()
    changed[299, 0, 7, 7] += 1
    assert fingerprint(ArrayImages(changed, images.labels))["sha256"] != found["sha256"]
    relabeled = ArrayImages(images.batch(rows), images.labels[::-1].copy())
    assert fingerprint(relabeled)["sha256"] != found["sha256"]


def test_a_fingerprint_of_files_is_the_same_whatever_decodes_them(tmp_path):
    write_classes(tmp_path, 3)
    found = fingerprint(FolderImages(tmp_path))
    darker = FolderImages(tmp_path, read=lambda path, shape: read_image(path, shape) // 2)
    assert fingerprint(darker) == found
    assert fingerprint(FolderImages(tmp_path, size=32))["sha256"] != found["sha256"]
    first, second, *_ = sorted(tmp_path.rglob("*.jpg"))
    first.write_bytes(second.read_bytes())
    assert fingerprint(FolderImages(tmp_path))["sha256"] != found["sha256"]
    opened = FolderImages(tmp_path)
    first.unlink()
    with pytest.raises(NearfarError, match=f"{first.name}' can no longer be read"):
        fingerprint(opened)


# --- data and measures ---------------------------------------------------------------------------


def test_a_subset_is_what_it_says(images):
    rows = np.array([7, 3, 250])
    some = Subset(images, rows)
    assert torch.equal(some.batch([0, 2]), images.batch([7, 250]))
    np.testing.assert_array_equal(some.labels, images.labels[rows])
    assert some.names() == ["007", "003", "250"]


def test_quick_digits_are_split_without_overlap_and_with_every_class():
    train_part, validation = for_validation(None, quick=True)
    assert (len(train_part), len(validation)) == (3200, 800)
    rows = torch.cat([train_part.rows, validation.rows])
    assert torch.equal(rows.sort().values, torch.arange(4000))
    for part in (train_part, validation):
        assert np.bincount(part.labels).min() > 0.8 * len(part) / 10


def test_the_paper_learns_from_the_first_50_000_digits(data_root):
    learned, tested = for_testing(data_root, quick=False)
    again, validation = for_validation(data_root, quick=False)
    assert (len(learned), len(tested), len(validation)) == (50_000, 10_000, 10_000)
    assert fingerprint(learned) == fingerprint(again)
    assert (learned.rows[-1], validation.rows[0]) == (49_999, 50_000)
    assert tested.name == "mnist:test"


def test_measures_are_those_of_their_definition(images):
    network = train(images, plain(1, **SMALL)).autoencoder.eval()
    pixels = images.batch(range(300)).float() / 255
    with torch.no_grad():
        embeddings, made = network(pixels)
    assert pixel_error(network, images) == pytest.approx(float(((made - pixels) ** 2).mean()))
    task = task_on(network.encoder, images, Subset(images, [5, 9]), seed=3)
    np.testing.assert_allclose(task.train, embeddings, atol=1e-6)
    np.testing.assert_allclose(task.test, embeddings[[5, 9]], atol=1e-6)
    np.testing.assert_array_equal(task.test_labels, images.labels[[5, 9]])


def test_classifiers_are_those_of_the_evaluation_and_say_how(images):
    task = task_on(torch.nn.Flatten(), images, Subset(images, range(100)), seed=0)
    some = Classifiers(("linear_svm", "rbf_svm", "knn"), 200)
    assert some.score(task) == {
        "linear_svm": scores.linear_svm(task).mean,
        "rbf_svm": scores.rbf_svm(task, 200).mean,
        "knn": scores.nearest_neighbors(task).mean,
    }
    assert some.settings["linear_svm"]["C"] == list(scores.LINEAR_CS)
    assert some.settings["rbf_svm"]["train_images"] == 200
    assert (some.settings["rbf_svm"]["C"], some.settings["rbf_svm"]["gamma"]) == (
        *(scores.RBF_C, scores.RBF_GAMMA),
    )
    every = Classifiers(("rbf_svm", "knn"))
    assert list(every.score(task)) == list(every.settings) == ["rbf_svm", "knn"]
    assert every.score(task)["rbf_svm"] == scores.rbf_svm(task, 300).mean


def test_probabilities_are_those_of_each_test_by_itself(images):
    task = task_on(torch.nn.Flatten(), images, Subset(images, range(100)), seed=0)
    darker = task.test / 2
    one, other = claims._true_class_probabilities(task, [task.test, darker])
    assert claims._true_class_probabilities(task, [task.test]) == pytest.approx([one])
    assert claims._true_class_probabilities(task, [darker]) == pytest.approx([other])
    assert one > other


def test_equal_budgets():
    for epochs in (2, 5, 40, 100):
        both = relational(epochs)
        assert both.pretrain_epochs + both.epochs == plain(epochs).pretrain_epochs == epochs
        assert 0 <= both.pretrain_epochs - both.epochs <= 1
    with pytest.raises(NearfarError, match="epochs=1"):
        relational(1)


def test_spread_over_seeds():
    assert spread([0.5]).std is None
    assert percent([0.97, 0.98], 0.977) == "97.50 ± 0.71 (97.7)"


@pytest.mark.parametrize(
    ("related", "alone", "expected"),
    [
        ([0.9, 0.91, 0.92], [0.8, 0.81, 0.825], "yes"),
        ([0.8, 0.81, 0.825], [0.9, 0.91, 0.92], "no"),
        ([0.9], [0.8], "undecided"),
    ],
)
def test_claims_are_judged(related, alone, expected):
    measured = {
        f"claims-seed-{seed}": {
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
    verdicts = claims._judge(measured, range(len(related)))
    assert [verdict.holds for verdict in verdicts[:3]] == [expected] * 3
    # 0.9 and 0.8 are within a quarter of each other, in either order.
    assert verdicts[3].holds == ("undecided" if len(related) == 1 else "yes")


def test_nothing_is_greater_than_itself():
    assert p_greater([0.5, 0.6], [0.5, 0.6]) is None
    assert p_greater([0.9, 0.9], [0.8, 0.8]) is None
    assert p_greater([0.5], [0.4]) is None
    assert p_greater([0.7, 0.8, 0.92], [0.5, 0.6, 0.7]) < 0.05


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ([0.975, 0.981, 0.978], [0.970, 0.975, 0.973], "yes"),
        ([0.975, 0.981, 0.978], [0.970, 0.982, 0.978], "no"),
        ([0.975, 0.981, 0.978], [0.980, 0.986, 0.984], "no"),
        ([0.975], [0.970], "undecided"),
    ],
)
def test_nre_is_judged_against_the_autoencoder_seed_by_seed(above, below, expected):
    summary, table = table1._judge({"L-SVM": (above, below)})
    found = summary["L-SVM"]
    differences = np.subtract(above, below)
    assert found["mean"] == pytest.approx(differences.mean())
    assert found["above_noise"] == expected
    if len(above) > 1:
        assert found["std"] == pytest.approx(differences.std(ddof=1))
        p = ttest_1samp(differences, 0, alternative="greater").pvalue
        assert found["p"] == pytest.approx(p)
    line = next(line for line in table.splitlines() if line.startswith("| L-SVM"))
    assert line.endswith(f"| {expected} |")


def test_one_seed_is_said_to_have_no_spread():
    assert seeds_note([0]) == "one seed, so without a standard deviation"
    assert seeds_note([0, 1]) == "mean ± standard deviation of 2 seeds"


def test_errors_outside_the_margin_are_not_about_equal():
    assert claims._about_equal([0.13, 0.131, 0.129], [0.1, 0.1, 0.1]) > 0.9
    assert claims._about_equal([0.1, 0.1, 0.101], [0.13, 0.131, 0.129]) > 0.9


# --- the commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("table1 --quick --rows autoencoder simclr", "'simclr'"),
        ("table1 --quick --seeds 0", "seeds=0"),
        ("claims --quick --seeds -1", "seeds=-1"),
        ("table1 --quick --epochs 1", "epochs=1"),
        ("table1 --quick --rows autoencoder --epochs 0 2", "epochs=0: expected at least 1"),
        ("table1 --quick --rbf-samples 3", "rbf_samples=3"),
        ("table1 --quick --epochs four", "four"),
        ("figure1 --data-root nowhere", "nowhere"),
        ("table9", "table9"),
        ("table2 --rows BiGAN", "'BiGAN'"),
        ("ablation --quick --rows T=11", "'T=11' is unknown: expected some of autoencoder,"),
        ("table2 --quick --epochs 0", "epochs=0"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, culprit, tmp_path, capsys):
    assert run("reproduce", *arguments.split(), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    said = [line for line in error.splitlines() if line.startswith("nearfar: ")]
    assert len(said) == 1
    assert culprit in said[0]
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists(), "nothing half-written"


def is_picture(path: Path) -> bool:
    return bool(np.asarray(Image.open(path).convert("L")).std() > 1)


def untrained(split_brain: bool) -> float:
    """Linear SVM accuracy of untrained encoders, as rows of table 1 start, over two seeds."""
    learned, tested = for_testing(None, quick=True)
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = Architecture(learned.shape, 128, split_brain=split_brain).build().eval()
        found.append(scores.linear_svm(task_on(network.encoder, learned, tested, seed)).mean)
    return float(np.mean(found))


@pytest.mark.slow
def test_table1(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert run("reproduce", "table1", "--out", out, "--quick") == 0
    written = read(out / "table1.json")
    assert len(written["cells"]) == 1 + 2 * 2 * len(table1.ROWS)
    assert written["settings"]["train"]["images"] == 4000
    judged = written["summary"].pop("NRE − autoencoder")
    assert {column["above_noise"] for column in judged.values()} <= {"yes", "no", "undecided"}
    for row, columns in written["summary"].items():
        assert len(columns) == 4
        for cell in columns.values():
            assert len(cell["seeds"]) == (1 if row == "pixels" else 2)
        if row != "pixels":
            assert columns["L-SVM, 5 epochs"]["mean"] > untrained(row == "split-brain") + 0.01
    shown = (out / "table1.md").read_text()
    assert shown.strip() in capsys.readouterr().out
    assert is_picture(out / "table1.png")
    assert not list(out.rglob(runs.EMBEDDINGS))

    # The same command again measures nothing.
    for name in ("linear_svm", "rbf_svm"):
        monkeypatch.setattr(scores, name, None)
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert run("reproduce", "table1", "--out", out, "--quick") == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == before
    assert (out / "table1.md").read_text() == shown

    # Other choices are refused.
    assert run("reproduce", "table1", "--out", out, "--quick", "--epochs", 2) == 2
    assert "epochs=[2, 5], not [2]" in capsys.readouterr().err
    assert run("reproduce", "claims", "--out", out, "--quick") == 2


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("table1", [PIXELS, *table1.ROWS]),
        ("table2", [*table2.ROWS]),
        ("table3", [*defenses.ROWS]),
        ("table4", [*detectors.ROWS, *detectors.ABLATION]),
        ("recipes", [PIXELS, *recipes.ROWS]),
    ],
)
def test_help_names_every_row(command, rows):
    names = re.findall(r"[\w.-]*\w", getattr(cli_reproduce, command).__doc__)
    assert [row for row in rows if row not in names] == []


@pytest.mark.slow
def test_a_table_killed_half_way_is_continued(tmp_path):
    out = tmp_path / "out"
    command = "table1 --quick --rows autoencoder NRE --seeds 1 --epochs 2 --rbf-samples 500".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "nearfar", "reproduce", *command, "--out", str(out)]
    )
    while not (out / "runs" / "NRE-2-seed-0" / runs.CHECKPOINT).is_file():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}
    assert {path.stem for path in done} == {"pixels-seed-0", "autoencoder-2-seed-0"}
    assert run("reproduce", *command, "--out", out) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(read(out / "table1.json")["cells"]) == 3


@pytest.mark.slow
def test_claims(tmp_path):
    assert run("reproduce", "claims", "--out", tmp_path, "--quick") == 0
    written = read(tmp_path / "claims.json")
    assert written["settings"]["probe"]["C"] == scores.PROBE_C
    assert [list(claim)[-2:] for claim in written["summary"].values()] == [["p", "holds"]] * 4
    results = [cell["result"] for cell in written["cells"]]
    assert len(results) == 2
    for result in results:
        assert result["distance_far"] > result["distance_near"] > 0
        assert all(0.08 < value < 1 for name, value in result.items() if "probability" in name)
    assert is_picture(tmp_path / "claims.png")


@pytest.mark.slow
def test_figure4(tmp_path):
    assert run("reproduce", "figure4", "--out", tmp_path, "--quick", "--seeds", 1) == 0
    summary = read(tmp_path / "figure4.json")["summary"]
    assert 0 < summary["autoencoder"]["mean"] < 0.1
    assert is_picture(tmp_path / "figure4.png")


@pytest.mark.slow
def test_figure1(data_root, tmp_path):
    options = ("--out", tmp_path, "--quick", "--seeds", 1, "--data-root", data_root)
    assert run("reproduce", "figure1", *options) == 0
    written = read(tmp_path / "figure1.json")
    assert {"linear_svm", "knn"} <= written["settings"].keys()
    summary = written["summary"]
    assert all(0.5 < row["linear_svm"]["mean"] <= 1 for row in summary.values())
    assert is_picture(tmp_path / "figure1.png")


def test_rows_of_the_ablation_change_what_they_say():
    paper = asdict(ablation.ROWS["paper"](2))
    for row, config in ablation.ROWS.items():
        changed = [name for name, value in asdict(config(2)).items() if paper[name] != value]
        said = 0 if row == "paper" else len(re.split(",(?=[a-zT])", row))
        budget = ["pretrain_epochs", "epochs"] * row.startswith("autoencoder")
        assert len(changed) - len(budget) == said - row.startswith("autoencoder"), row
        assert set(budget) <= set(changed)


@pytest.mark.slow
def test_ablation(tmp_path):
    assert run("reproduce", "ablation", "--out", tmp_path, "--quick", "--seeds", 1) == 0
    written = read(tmp_path / "ablation.json")
    assert "test" not in written["settings"]
    assert {"linear_svm", "rbf_svm", "knn"} <= written["settings"].keys()
    assert list(written["summary"]) == list(ablation.ROWS)
    assert is_picture(tmp_path / "ablation.png")
