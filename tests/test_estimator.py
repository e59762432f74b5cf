"""NRE keeps scikit-learn's contract, and speaks the caller's layouts and scales."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch
from nearfar.training.config import TrainConfig
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from nearfar import NRE
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError

QUICK = {"pretrain_epochs": 2, "epochs": 2, "embedding_size": 12, "clusters": 4, "device": "cpu"}


@parametrize_with_checks(
    [NRE(pretrain_epochs=1, epochs=1, embedding_size=4, clusters=1, device="cpu")],
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_parameters_are_those_of_training():
    ours = {k: v.default for k, v in inspect.signature(NRE).parameters.items()}
    for name, parameter in inspect.signature(TrainConfig).parameters.items():
        if name != "bank":
            assert ours[name] == parameter.default, name


@pytest.fixture(scope="module")
def model(digits):
    return NRE(**QUICK).fit(digits[:300])


def test_codes_and_reconstructions_have_the_shapes_of_the_caller(model, digits):
    images = digits[:7]
    assert model.transform(images).shape == (7, 12)
    assert model.transform(images).dtype == np.float32
    reconstruction = model.reconstruct(images)
    assert reconstruction.shape == images.shape
    assert reconstruction.dtype == np.uint8
    np.testing.assert_array_equal(model.inverse_transform(model.transform(images)), reconstruction)


def test_layouts_of_the_same_images_give_the_same_codes(model, digits):
    images = digits[:7]
    expected = model.transform(images)
    for same in (images.reshape(7, -1), images[..., None], ArrayImages(images[:, None])):
        np.testing.assert_allclose(model.transform(same), expected, rtol=1e-5)
    assert model.reconstruct(images.reshape(7, -1)).shape == (7, 64)
    assert model.reconstruct(images[..., None]).shape == (7, 8, 8, 1)


def test_lists_of_images_are_arrays(model, digits):
    np.testing.assert_array_equal(model.transform(list(digits[:5])), model.transform(digits[:5]))


def test_arrays_that_may_not_be_written_are_read_without_a_word(model, digits):
    fixed = digits[:5].copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.transform(fixed)


def test_scales_of_the_same_images_give_the_same_codes(digits):
    images = digits[:100]
    expected = NRE(**QUICK).fit_transform(images)
    unit = images.astype(np.float64) / 255
    np.testing.assert_allclose(NRE(**QUICK).fit_transform(unit), expected, rtol=1e-3, atol=1e-4)
    shifted = np.concatenate([unit * 20 - 10, np.full((1, 8, 8), -10.0), np.full((1, 8, 8), 10.0)])
    embeddings = NRE(**QUICK).fit(shifted)
    assert embeddings.pixel_range_ == (-10, 10)
    assert np.abs(embeddings.reconstruct(shifted)).max() <= 10


def test_color_images(digits):
    color = np.stack([digits[:50], digits[50:100], digits[100:150]], axis=-1)
    model = NRE(**QUICK).fit(color)
    assert model.shape_ == (3, 8, 8)
    assert model.reconstruct(color).shape == color.shape
    flat = NRE(**QUICK, image_shape=(8, 8, 3)).fit(color.reshape(50, -1))
    np.testing.assert_allclose(
        flat.transform(color.reshape(50, -1)), model.transform(color), rtol=1e-5
    )


class HandThrough(torch.nn.Module):
    """Gives back what it gets; its one weight has no effect."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, values):
        return values.unflatten(1, self.shape) + 0 * self.weight

    @classmethod
    def pair(cls, shape):
        size = int(np.prod(shape))
        encoder = torch.nn.Sequential(torch.nn.Flatten(), cls((size,)))
        return {"encoder": encoder, "decoder": cls(shape)}


def test_rows_and_columns_of_color_images_keep_their_places(digits):
    """A network that hands its input through shows every image as it was given."""
    tall = np.concatenate([digits[:30], digits[30:60, :4]], axis=1)
    images = np.stack([tall, tall[::-1], 255 - tall], axis=-1)
    model = NRE(**QUICK | {"pretrain_epochs": 1, "epochs": 0}, **HandThrough.pair((3, 12, 8)))
    model.fit(images)
    np.testing.assert_array_equal(model.reconstruct(images), images)
    np.testing.assert_array_equal(model.inverse_transform(model.transform(images)), images)
    flat = images.reshape(30, -1)
    np.testing.assert_array_equal(model.reconstruct(flat), flat)


def test_codes_of_training_images_are_kept(model, digits):
    np.testing.assert_allclose(model.codes_, model.transform(digits[:300]), rtol=1e-4, atol=1e-5)


def test_neighbors_of_a_training_image(model, digits):
    distances, rows = model.kneighbors(n_neighbors=3)
    assert rows.shape == distances.shape == (300, 3)
    assert (rows != np.arange(300)[:, None]).all(), "without itself"
    assert (np.diff(distances) >= -1e-6).all()
    _, itself = model.kneighbors(digits[:20], n_neighbors=1)
    assert (itself[:, 0] == np.arange(20)).mean() > 0.9, "a query is its own nearest"
    far_distances, _ = model.kneighbors(n_neighbors=3, far=True)
    assert (far_distances > distances).all()
    np.testing.assert_array_equal(model.kneighbors(n_neighbors=3, return_distance=False), rows)


def test_a_saved_model_comes_back(model, digits, tmp_path):
    model.save(tmp_path / "run")
    again = NRE.load(tmp_path / "run")
    np.testing.assert_array_equal(again.transform(digits), model.transform(digits))
    np.testing.assert_array_equal(again.reconstruct(digits[:5]), model.reconstruct(digits[:5]))
    np.testing.assert_array_equal(
        again.kneighbors(n_neighbors=2)[1], model.kneighbors(n_neighbors=2)[1]
    )
    assert again.log_ == model.log_
    assert again.get_params() == model.get_params()
    with pytest.raises(NearfarError, match="exists already"):
        model.save(tmp_path / "run")


def test_a_model_of_a_machine_with_another_device_is_read(model, digits, tmp_path):
    model.save(tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda:7"'))
    again = NRE.load(tmp_path / "run")
    assert again.device == "auto"
    np.testing.assert_allclose(again.transform(digits[:5]), model.transform(digits[:5]), atol=1e-4)


@pytest.mark.parametrize("image_shape", [None, (4, 16), (4, 16, 1)])
def test_flat_images_come_back_flat_from_a_saved_model(digits, tmp_path, image_shape):
    flat = digits[:60].reshape(60, -1)
    model = NRE(**QUICK, image_shape=image_shape).fit(flat)
    model.save(tmp_path / "run")
    again = NRE.load(tmp_path / "run")
    embeddings = model.transform(flat)
    np.testing.assert_array_equal(again.transform(flat), embeddings)
    assert again.inverse_transform(embeddings).shape == (60, 64)
    np.testing.assert_array_equal(
        again.inverse_transform(embeddings), model.inverse_transform(embeddings)
    )
    assert again.get_params() == model.get_params()


def test_numbers_of_numpy_are_saved(digits, tmp_path):
    numbers = {"epochs": np.int64(1), "lr": np.float32(1e-3), "weights": np.array([0.5, 0.5, 0])}
    model = NRE(**QUICK | numbers).fit(digits[:60])
    model.save(tmp_path / "run")
    assert NRE.load(tmp_path / "run").get_params()["epochs"] == 1


@pytest.mark.parametrize(("fitted", "given"), [(1, 1 / 255), (1 / 255, 1.0)])
def test_images_on_another_scale_than_in_fit_are_warned_of(digits, fitted, given):
    images = digits[:60] * fitted if fitted != 1 else digits[:60]
    model = NRE(**QUICK).fit(images)
    with pytest.warns(UserWarning, match="0…255.*0…1|0…1.*0…255"):
        model.transform(digits[:60] * given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.transform(images)
        model.transform(images * 1.0)
        model.transform(images[:5] * 0)
        model.transform(digits[:60])


def test_a_fit_that_fails_leaves_the_model_as_it_was(digits):
    model = NRE(**QUICK).fit(digits[:60])
    before = model.transform(digits[:9])
    model.set_params(pretrain_lr=1e30)
    with pytest.raises(NearfarError):
        model.fit(digits[:60] / 16)
    assert (model.transform(digits[:9]) == before).all()


@pytest.mark.parametrize("scale", [1, 1 / 255, 7.5])
def test_reconstructions_stay_on_the_scale_of_fit(digits, scale):
    """Whatever a decoder of the caller's own gives."""
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    decoder = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    with torch.no_grad():
        decoder[0].bias.copy_(torch.linspace(-9, 9, 64))
    images = digits[:60] if scale == 1 else digits[:60] * scale
    model = NRE(**QUICK, encoder=encoder, decoder=decoder).fit(images)
    for made in (model.reconstruct(images), model.inverse_transform(np.zeros((1, 5)))):
        assert made.min() == 0
        assert made.max() == pytest.approx(model.pixel_range_[1])


def test_a_pipeline_and_a_clone(digits, digit_labels):
    pipeline = make_pipeline(
        NRE(**QUICK | {"pretrain_epochs": 20}, batch_size=16), LogisticRegression(max_iter=500)
    )
    pipeline.fit(digits[:300].reshape(300, -1), digit_labels[:300])
    score = pipeline.score(digits[300:].reshape(-1, 64), digit_labels[300:])
    assert score > 0.5, "far above the 0.1 of chance"
    assert clone(pipeline).get_params()["nre__code_size"] == 12
    assert pipeline[:1].get_feature_names_out()[0] == "nre0"


def test_a_network_of_the_callers_own(digits, tmp_path):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    decoder = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    model = clone(NRE(**QUICK, encoder=encoder, decoder=decoder)).fit(digits[:100])
    model.save(tmp_path / "run")
    with pytest.raises(NearfarError, match="give its encoder and decoder"):
        NRE.load(tmp_path / "run")
    again = NRE.load(tmp_path / "run", encoder=encoder, decoder=decoder)
    np.testing.assert_array_equal(again.transform(digits[:9]), model.transform(digits[:9]))
    with pytest.raises(NearfarError, match="of another network"):
        NRE.load(tmp_path / "run", encoder=torch.nn.Linear(64, 6), decoder=decoder)


@pytest.mark.parametrize(
    ("call", "culprit"),
    [
        (lambda m, x: m.transform(np.zeros((2, 9, 9), np.uint8)), "81"),
        (lambda m, x: m.transform(np.zeros((2, 4, 16), np.uint8)), r"\(4, 16, 1\)"),
        (lambda m, x: m.transform(ArrayImages(np.zeros((2, 1, 9, 9), np.uint8))), r"\(1, 9, 9\)"),
        (lambda m, x: m.inverse_transform(np.zeros((2, 11))), r"\(n, 12\)"),
        (lambda m, x: m.kneighbors(n_neighbors=300), "300"),
        (lambda m, x: NRE(**QUICK).fit(np.zeros((9, 8, 8, 4))), "1 or 3 channels"),
        (lambda m, x: NRE(**QUICK).fit(np.full((9, 8, 8), np.nan)), "NaN"),
        (lambda m, x: NRE(**QUICK, image_shape=(7, 8)).fit(np.zeros((9, 64))), "image_shape"),
        *(
            (lambda m, x, s=s: NRE(**QUICK, image_shape=s).fit(np.zeros((9, 64))), "image_shape")
            for s in ((64,), (), 64, (-8, -8), (8.0, 8.0), (8, 8, 1, 1))
        ),
        (lambda m, x: m.transform(np.zeros((0, 8, 8))), "0 sample"),
        (lambda m, x: m.kneighbors(x, n_neighbors=2.5), "whole number"),
        (lambda m, x: NRE(**QUICK, encoder=torch.nn.Flatten()).fit(x), "go together"),
        (lambda m, x: NRE(**{**QUICK, "device": "abacus"}).fit(x), "abacus"),
    ],
)
def test_inputs_that_are_refused(model, digits, call, culprit):
    with pytest.raises(ValueError, match=culprit):
        call(model, digits[:50])
