"""Validation: the accuracy it logs is that of the network, and training does not see it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from nearfar import recipe, runs, train
from nearfar.data import ArrayImages, images_from_array
from nearfar.errors import NearfarError
from nearfar.evaluation import Validation
from nearfar.training import Callback, TensorBoard
from nearfar.training.trainer import Interrupted


@pytest.fixture
def digits() -> ArrayImages:
    known = load_digits()
    return images_from_array(known.images[:400] / 16, labels=known.target[:400])


CONFIG = recipe("nearfar", epochs=2, clusters=4, batch_size=64, hidden=16, embedding_size=8)


def test_log_holds_the_accuracy_after_each_epoch(tmp_path: Path, digits: ArrayImages) -> None:
    folder = tmp_path / "run"
    run = train(digits, CONFIG, folder=folder, callbacks=[Validation(digits)])
    logged = [line["knn_accuracy"] for line in runs.read_log(folder)]
    assert logged == [line["knn_accuracy"] for line in run.log]

    rows = normalize(run.embeddings)
    near = KNeighborsClassifier(5).fit(rows, digits.labels).kneighbors(return_distance=False)
    votes = torch.as_tensor(digits.labels)[torch.as_tensor(near)].mode(dim=1).values
    majority = float((votes == torch.as_tensor(digits.labels)).double().mean())
    assert logged[-1] == pytest.approx(majority, abs=0.03)  # ties are decided otherwise


def test_training_is_the_same_with_and_without(digits: ArrayImages) -> None:
    runs_of = [train(digits, CONFIG, callbacks=given) for given in ([Validation(digits)], [])]
    one, other = (run.network.state_dict() for run in runs_of)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_all_callbacks_get_the_accuracy_whatever_their_order(
    tmp_path: Path, digits: ArrayImages
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(digits, CONFIG, callbacks=[TensorBoard(tmp_path / "board"), Validation(digits)])
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert len(events.Scalars("train/knn_accuracy")) == 2


def test_accuracy_survives_an_interruption(tmp_path: Path, digits: ArrayImages) -> None:
    class Stop(Callback):
        def on_epoch_end(self, trainer: object, metrics: object) -> None:
            raise Interrupted

    folder, validation = tmp_path / "run", Validation(digits)
    with pytest.raises(Interrupted):
        train(digits, CONFIG, folder=folder, callbacks=[Stop(), validation])
    train(digits, CONFIG, folder=folder, resume=True, callbacks=[validation])
    assert all("knn_accuracy" in line for line in runs.read_log(folder))


def test_images_without_labels_are_rejected(digits: ArrayImages) -> None:
    digits.labels = None
    with pytest.raises(NearfarError, match="labels"):
        Validation(digits)
