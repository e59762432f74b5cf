"""Runner: cells are measured once, trainings continue, processes share both."""

from __future__ import annotations

import json
import multiprocessing
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interruption import StopAt
from nearfar import runs
from nearfar.data import ArrayImages, FolderImages, Subset, read_image
from nearfar.errors import NearfarError
from nearfar.experiments.runner import Job, fingerprint
from nearfar.training import Interrupted, Snapshots, train
from nearfar.transfer import write_classes
from tables import begun, measure_five, plain, relational, train_beside
from trainings import assert_same_weights, weights

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def images(digits, digit_labels):
    return ArrayImages(digits[:300, None], digit_labels[:300])


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- cells ---------------------------------------------------------------------------------------


def counting(results: list[str], name: str, **settings: Any) -> Job:
    def measure() -> dict[str, Any]:
        results.append(name)
        return {"value": len(results)}

    return Job(name, settings, measure)


def test_cell_is_measured_once(tmp_path):
    done: list[str] = []
    for seeds in (1, 3):
        cells = [counting(done, f"cell-{seed}", seed=seed) for seed in range(seeds)]
        measured = begun(tmp_path / "out", settings={"epochs": (4,)}).measure(cells)
    assert done == ["cell-0", "cell-1", "cell-2"]
    assert [measured[f"cell-{seed}"]["result"]["value"] for seed in range(3)] == [1, 2, 3]
    assert measured["cell-0"]["environment"]["torch"] == version("torch")


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


def test_cell_of_a_killed_process_is_measured_by_another(tmp_path):
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


def test_failing_cell_leaves_the_others(tmp_path):
    done: list[str] = []
    cells = [counting(done, "good"), Job("bad", {}, lambda: {"value": 1 / 0})]
    with pytest.raises(ZeroDivisionError):
        begun(tmp_path / "out").measure(cells)
    begun(tmp_path / "out").measure([cells[0], counting(done, "bad")])
    assert done == ["good", "bad"]


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("table", {"epochs": [40]}, r"epochs=\[4\], not \[40\]"),
        ("table", {"epochs": [4], "quick": True}, "quick=None, not True"),
        ("table", {}, r"epochs=\[4\], not None"),
        ("claims", {"epochs": [4]}, "experiment=table, not claims"),
    ],
)
def test_begin_refuses_a_folder_of_other_settings(tmp_path, name, settings, culprit):
    begun(tmp_path / "out", settings={"epochs": [4]}).measure([])
    before = contents(tmp_path)
    with pytest.raises(NearfarError, match=culprit) as refused:
        begun(tmp_path / "out", name, settings)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == before


def test_measure_refuses_a_cell_of_other_settings(tmp_path):
    runner = begun(tmp_path / "out")
    runner.measure([counting([], "cell", config={"lr": 0.1, "seed": 0})])
    with pytest.raises(NearfarError, match=r"lr=0\.1, not 0\.2"):
        runner.measure([counting([], "cell", config={"lr": 0.2, "seed": 0})])


def test_train_refuses_a_run_of_another_configuration(tmp_path, images):
    runner = begun(tmp_path / "out")
    runner.train("run", images, plain(1))
    with pytest.raises(NearfarError, match="seed=0, not 1"):
        runner.train("run", images, plain(1, seed=1))


def test_begin_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NearfarError, match="exists already: choose another folder") as refused:
        begun(tmp_path)
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
def test_measure_names_a_damaged_cell(tmp_path, damage):
    runner = begun(tmp_path / "out")
    runner.measure([counting([], "cell")])
    path = tmp_path / "out" / "cells" / "cell.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(NearfarError, match=r"cell\.json' is damaged"):
        runner.measure([counting([], "cell")])


@pytest.mark.parametrize("step", [1, 7, 12, 18, 20])
def test_train_resumes_at_the_step(tmp_path, images, step):
    config = relational(4)  # five steps per epoch

    def trained(name: str, track: Any) -> dict[str, torch.Tensor]:
        runner = begun(tmp_path / name, track=track)
        runner.measure([])
        return runner.train("run", images, config).network(4).state_dict()

    whole = trained("whole", StopAt(-1))
    with pytest.raises(Interrupted):
        trained("halved", StopAt(step))
    counted = StopAt(-1)
    continued = trained("halved", counted)
    assert -1 - counted.left == 20 - step, "steps already done are not done again"
    assert_same_weights(continued, whole)
    again = StopAt(-1)
    trained("halved", again)
    assert again.left == -1, "a finished run is not trained again"


def timeless(folder: Path) -> list[dict[str, float]]:
    lines = runs.read_log(folder)
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


@pytest.mark.parametrize("first", [plain(4), relational(4, neighbors=3)])
@pytest.mark.parametrize("step", [-1, 8])
def test_train_shares_pre_training(tmp_path, images, first, step):
    """There are five steps per epoch; the last ten are the run's own."""
    config = relational(4, lr=1e-3)
    keep = [Snapshots([2, 4])]
    alone = train(images, config, folder=tmp_path / "alone", callbacks=keep)
    runner = begun(tmp_path / "out")
    runner.train("first", images, first, [2, 4])
    if step > 0:
        runner.track = StopAt(step)
        with pytest.raises(Interrupted):
            runner.train("run", images, config, [2, 4])
    runner.track = counted = StopAt(-1)
    training = runner.train("run", images, config, [2, 4])
    assert -1 - counted.left == 10 - max(step, 0)
    for epochs, network in ((2, alone.initial), (4, alone.network)):
        assert_same_weights(training.network(epochs).state_dict(), network.state_dict())
    assert_same_weights(weights(training.folder), weights(tmp_path / "alone"))
    if step < 0:
        assert timeless(training.folder) == timeless(tmp_path / "alone")
    assert training.seconds(4) > training.seconds(2) > 0


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
def test_train_pretrains_alone_with_other_settings(tmp_path, images, choices):
    rates = {name: choices[name] for name in choices if name == "lr_schedule"}
    runner = begun(tmp_path / "out")
    runner.train("plain", images, plain(3, **rates), [1, 3])
    training = runner.train("run", images, relational(2, **choices))
    alone = train(images, relational(2, **choices)).network.state_dict()
    assert_same_weights(training.network().state_dict(), alone)
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 3


def test_train_pretrains_alone_on_other_images(tmp_path, images):
    runner = begun(tmp_path / "out")
    runner.train("plain", images, plain(1))
    some = Subset(images, range(299))
    training = runner.train("run", some, relational(2))
    alone = train(some, relational(2)).network.state_dict()
    assert_same_weights(training.network().state_dict(), alone)


def test_seconds_of_a_cell_include_its_trainings(tmp_path, images):
    class Slowly(StopAt):
        """Takes half a second per step, of five per epoch, and stops."""

        def __call__(self, items, description, total):
            for item in super().__call__(items, description, total):
                time.sleep(0.5 if description == "pretrain" else 0)
                yield item

    def measure() -> dict[str, float]:
        return {"training_seconds": runner.train("run", images, relational(2)).seconds(2)}

    runner = begun(tmp_path / "out", track=Slowly(4))
    cell = Job("cell", {}, measure)
    with pytest.raises(Interrupted):
        runner.measure([cell])
    runner.track = Slowly(-1)
    measured = runner.measure([cell])["cell"]
    assert 2.5 < measured["result"]["training_seconds"] <= measured["seconds"] < 5


def test_processes_pretrain_once_together(tmp_path, digits):
    begun(tmp_path).measure([])
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


def test_train_refuses_to_resume_another_configuration(tmp_path, images):
    runner = begun(tmp_path / "out", track=StopAt(7))
    with pytest.raises(Interrupted):
        runner.train("run", images, plain(2))
    with pytest.raises(NearfarError, match=r"pretrain_lr=0\.001, not 0\.01"):
        runner.train("run", images, plain(2, pretrain_lr=0.01))


def test_train_starts_again_without_a_checkpoint(tmp_path, images):
    runner = begun(tmp_path / "out")
    folder = tmp_path / "out" / "runs" / "run"
    folder.mkdir(parents=True)
    (folder / f"{runs.CONFIG}.part").touch()
    assert runner.train("run", images, plain(1)).network(1)


def test_fingerprint_depends_on_every_pixel_and_label(images):
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


def test_fingerprint_of_files_is_independent_of_decoding(tmp_path):
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
