"""Images, metrics of networks, and classifiers of embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from nearfar.data import ArrayImages, Subset
from nearfar.evaluation import scores
from nearfar.experiments import unscaled
from nearfar.experiments.configs import AUTOENCODER
from nearfar.experiments.digits import for_testing, for_validation
from nearfar.experiments.metrics import Classifiers, pixel_error, task_on
from nearfar.experiments.rows import train_for
from nearfar.experiments.runner import fingerprint
from nearfar.training import train

SMALL = {"batch_size": 64, "embedding_size": 12, "device": "cpu"}


@pytest.fixture
def images(digits, digit_labels):
    return ArrayImages(digits[:300, None], digit_labels[:300])


def test_subset_has_the_rows_asked_for(images):
    rows = np.array([7, 3, 250])
    some = Subset(images, rows)
    assert torch.equal(some.batch([0, 2]), images.batch([7, 250]))
    np.testing.assert_array_equal(some.labels, images.labels[rows])
    assert some.names() == ["007", "003", "250"]


def test_quick_digits_split_without_overlap_with_every_class():
    train_part, validation = for_validation(None, quick=True)
    assert (len(train_part), len(validation)) == (3200, 800)
    rows = torch.cat([train_part.rows, validation.rows])
    assert torch.equal(rows.sort().values, torch.arange(4000))
    for part in (train_part, validation):
        assert np.bincount(part.labels).min() > 0.8 * len(part) / 10


def test_training_digits_are_the_first_50_000(data_root):
    learned, tested = for_testing(data_root, quick=False)
    again, validation = for_validation(data_root, quick=False)
    assert (len(learned), len(tested), len(validation)) == (50_000, 10_000, 10_000)
    assert fingerprint(learned) == fingerprint(again)
    assert (learned.rows[-1], validation.rows[0]) == (49_999, 50_000)
    assert tested.name == "mnist:test"


def test_pixel_error_and_task_follow_their_definitions(images):
    network = train(images, train_for(AUTOENCODER, 1, **SMALL)).network.eval()
    pixels = images.batch(range(300)).float() / 255
    with torch.no_grad():
        embeddings, made = network(pixels)
    assert pixel_error(network, images) == pytest.approx(float(((made - pixels) ** 2).mean()))
    task = task_on(network.encoder, images, Subset(images, [5, 9]), seed=3)
    np.testing.assert_allclose(task.train, embeddings, atol=1e-6)
    np.testing.assert_allclose(task.test, embeddings[[5, 9]], atol=1e-6)
    np.testing.assert_array_equal(task.test_labels, images.labels[[5, 9]])


def test_classifiers_are_those_of_the_evaluation(images):
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


def test_unscaled_svms_are_those_of_scikit_learn_by_default(images):
    task = task_on(torch.nn.Flatten(), images, Subset(images, range(100)), seed=0)
    data, tested = (task.train, task.train_labels), (task.test, task.test_labels)
    some = Classifiers(("linear_svc", "rbf_svc", "rbf_svc_0.3"))
    variance = unscaled.total_variance(task)
    assert variance == pytest.approx(task.train.astype(np.float64).var(0).sum(), rel=1e-4)
    assert some.score(task) == {
        "linear_svc": SVC(kernel="linear").fit(*data).score(*tested),
        "rbf_svc": SVC(gamma=0.01).fit(*data).score(*tested),
        "rbf_svc_0.3": SVC(gamma=0.3 / variance).fit(*data).score(*tested),
    }
    assert list(some.settings) == ["linear_svc", "rbf_svc", "rbf_svc_0.3"]
    assert unscaled.rbf_svc(task, 50) < some.score(task)["rbf_svc"]


def test_sweep_of_scale_does_not_depend_on_the_scale(images):
    task = task_on(torch.nn.Flatten(), images, Subset(images, range(100)), seed=0)
    larger = replace(task, train=4 * task.train, test=4 * task.test)
    assert unscaled.rbf_svc(larger, 200, 1.0) == unscaled.rbf_svc(task, 200, 1.0)
    assert unscaled.rbf_svc(larger, 200) != unscaled.rbf_svc(task, 200)
