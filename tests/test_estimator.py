"""`NRE`: scikit-learn's contract, the caller's layouts and scales, and complete help."""

from __future__ import annotations

import inspect
import pydoc
import re
import warnings
from typing import Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import sklearn
import torch
from docstring_parser import parse_from_object
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from nearfar import NRE
from nearfar.config import TrainConfig, configure, recipe, train_options
from nearfar.data import ArrayImages, images_from_array
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.training import choose_defaults
from trainings import linear_network

QUICK = {"pretrain_epochs": 2, "epochs": 2, "embedding_size": 12, "clusters": 4, "device": "cpu"}


def own(network, **options):
    """Return `QUICK` for a network of one's own."""
    options = {
        name: value for name, value in {**QUICK, **options}.items() if name != "embedding_size"
    }
    return configure({"network": network, **options})


@parametrize_with_checks(
    [NRE(pretrain_epochs=1, epochs=1, embedding_size=4, clusters=1, device="cpu")],
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


# --- parameters ----------------------------------------------------------------------------------


def test_parameters_are_options_of_training_that_the_images_decide(digits):
    """The command line has the same defaults, by the same function."""
    names = {option.name for option in train_options()}
    others = {"image_shape", "config", "recipe", "verbose"}
    parameters = inspect.signature(NRE).parameters
    assert len(parameters) <= 15
    for name, parameter in parameters.items():
        if name not in others:
            assert name in names
            assert parameter.default == {"seed": 0, "device": "auto"}.get(name)
    images = images_from_array(digits)
    assert NRE()._config(images) == choose_defaults(images, {}).config
    assert NRE(recipe="paper")._config(images) == TrainConfig()


def test_help_lists_every_parameter_with_its_type_and_default():
    documented = {}
    for entry in parse_from_object(NRE).params:
        for name in entry.arg_name.split(", "):
            if entry.args[0] == "param":
                documented[name] = entry
    parameters = inspect.signature(NRE).parameters
    assert documented.keys() == parameters.keys()
    hints = get_type_hints(NRE.__init__)
    described = {
        int: r"int",
        float: r"float",
        bool: r"bool",
        tuple: r"tuple of (int|float)",
        TrainConfig: r"TrainConfig",
        str: r"str|\{.*\}",
        Literal: r"\{.*\}",
        Union: r"\{.*\}",
    }
    for name in parameters:
        entry, hint = documented[name], hints[name]
        optional = type(None) in get_args(hint)
        if optional:
            hint = next(each for each in get_args(hint) if each is not type(None))
        kind = next(k for k in described if k is (get_origin(hint) or hint))
        text, expected = entry.type_name or "", described[kind]
        assert re.fullmatch(expected, text.removesuffix(", optional")), (name, text)
        assert entry.is_optional == optional, name
        if kind is Literal:
            assert all(str(value) in text for value in get_args(hint)), name
    page = pydoc.plain(pydoc.render_doc(NRE))
    for name, parameter in parameters.items():
        assert re.search(rf"\b{name}: [^=]*= ?{re.escape(repr(parameter.default))}", page), name


def test_config_takes_the_place_of_other_parameters(digits):
    config = recipe("nearfar", epochs=1, clusters=5, embedding_size=9, device="cpu")
    assert NRE(config=config).fit_transform(digits[:60]).shape == (60, 9)
    assert NRE(config=config, verbose=True, image_shape=(4, 16))._config(None) is config
    for name, value in {
        "epochs": 3,
        "loss_weights": (1, 0, 0),
        "backbone": "timm:resnet18",
    }.items():
        with pytest.raises(
            NearfarError, match=f"{name}=.* together with config: expected one of them"
        ):
            NRE(config=config, **{name: value}).fit(digits[:60])


def test_parameters_that_do_not_fit_are_refused_by_fit(digits):
    with pytest.raises(NearfarError, match="loss_weights=.* sum to 1.5"):
        NRE(loss_weights=(0.5, 0.5, 0.5)).fit(digits[:60])
    with pytest.raises(NearfarError, match="epochs=2.5: expected a whole number"):
        NRE(epochs=2.5).fit(digits[:60])


# --- layouts and scales --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(digits):
    return NRE(**QUICK).fit(digits[:300])


def test_embeddings_and_reconstructions_have_the_shapes_of_the_caller(model, digits):
    images = digits[:7]
    assert model.transform(images).shape == (7, 12)
    assert model.transform(images).dtype == np.float32
    reconstruction = model.reconstruct(images)
    assert reconstruction.shape == images.shape
    assert reconstruction.dtype == np.uint8
    np.testing.assert_array_equal(model.inverse_transform(model.transform(images)), reconstruction)


def test_layouts_of_the_same_images_give_the_same_embeddings(model, digits):
    images = digits[:7]
    expected = model.transform(images)
    for same in (images.reshape(7, -1), images[..., None], ArrayImages(images[:, None])):
        np.testing.assert_allclose(model.transform(same), expected, rtol=1e-5)
    assert model.reconstruct(images.reshape(7, -1)).shape == (7, 64)
    assert model.reconstruct(images[..., None]).shape == (7, 8, 8, 1)


def test_lists_of_images_are_arrays(model, digits):
    np.testing.assert_array_equal(model.transform(list(digits[:5])), model.transform(digits[:5]))


def test_read_only_arrays_are_read_without_a_warning(model, digits):
    fixed = digits[:5].copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.transform(fixed)


def test_scales_of_the_same_images_give_the_same_embeddings(digits):
    images = digits[:100]
    expected = NRE(**QUICK).fit_transform(images)
    unit = images.astype(np.float64) / 255
    np.testing.assert_allclose(NRE(**QUICK).fit_transform(unit), expected, rtol=1e-3, atol=1e-4)
    shifted = np.concatenate([unit * 20 - 10, np.full((1, 8, 8), -10.0), np.full((1, 8, 8), 10.0)])
    embeddings = NRE(**QUICK).fit(shifted)
    assert embeddings.run_.config.data.pixel_range == (-10, 10)
    assert np.abs(embeddings.reconstruct(shifted)).max() <= 10


def test_color_images(digits):
    color = np.stack([digits[:50], digits[50:100], digits[100:150]], axis=-1)
    model = NRE(**QUICK).fit(color)
    assert model.run_.config.data.shape == (3, 8, 8)
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
    def network(cls, shape):
        size = int(np.prod(shape))
        encoder = torch.nn.Sequential(torch.nn.Flatten(), cls((size,)))
        return Autoencoder(encoder, cls(shape))


def test_rows_and_columns_of_color_images_keep_their_places(digits):
    """A network that hands its input through shows every image as it was given."""
    tall = np.concatenate([digits[:30], digits[30:60, :4]], axis=1)
    images = np.stack([tall, tall[::-1], 255 - tall], axis=-1)
    model = NRE(config=own(HandThrough.network((3, 12, 8)), epochs=0)).fit(images)
    np.testing.assert_array_equal(model.reconstruct(images), images)
    np.testing.assert_array_equal(model.inverse_transform(model.transform(images)), images)
    flat = images.reshape(30, -1)
    np.testing.assert_array_equal(model.reconstruct(flat), flat)


def test_embeddings_of_training_images_are_kept(model, digits):
    np.testing.assert_allclose(
        model.embeddings_, model.transform(digits[:300]), rtol=1e-4, atol=1e-5
    )


def test_kneighbors_of_training_images_and_of_queries(model, digits):
    distances, rows = model.kneighbors(n_neighbors=3)
    assert rows.shape == distances.shape == (300, 3)
    assert (rows != np.arange(300)[:, None]).all(), "without itself"
    assert (np.diff(distances) >= -1e-6).all()
    _, itself = model.kneighbors(digits[:20], n_neighbors=1)
    assert (itself[:, 0] == np.arange(20)).mean() > 0.9, "a query is its own nearest"
    far_distances, _ = model.kneighbors(n_neighbors=3, far=True)
    assert (far_distances > distances).all()
    np.testing.assert_array_equal(model.kneighbors(n_neighbors=3, return_distance=False), rows)


def test_saved_model_comes_back(model, digits, tmp_path):
    model.save(tmp_path / "run")
    again = NRE.load(tmp_path / "run")
    np.testing.assert_array_equal(again.transform(digits), model.transform(digits))
    np.testing.assert_array_equal(again.reconstruct(digits[:5]), model.reconstruct(digits[:5]))
    np.testing.assert_array_equal(
        again.kneighbors(n_neighbors=2)[1], model.kneighbors(n_neighbors=2)[1]
    )
    assert again.run_.log == model.run_.log
    assert again.run_.config == model.run_.config
    assert again.config == model.run_.config.train
    with pytest.raises(NearfarError, match="exists already"):
        model.save(tmp_path / "run")


def test_model_of_a_machine_with_another_device_is_read(model, digits, tmp_path):
    model.save(tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda:7"'))
    again = NRE.load(tmp_path / "run")
    assert again.config.device == "auto"
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
    assert again.image_shape == model.image_shape
    assert again.fit(flat).transform(flat).shape == embeddings.shape


def test_numpy_parameters_are_saved(digits, tmp_path):
    numbers = {
        "epochs": np.int64(1),
        "lr": np.float32(1e-3),
        "loss_weights": np.array([0.5, 0.5, 0]),
    }
    model = NRE(**QUICK | numbers).fit(digits[:60])
    model.save(tmp_path / "run")
    assert NRE.load(tmp_path / "run").config == model.run_.config.train
    assert model.run_.config.train.optim.epochs == 1


@pytest.mark.parametrize(("fitted", "given"), [(1, 1 / 255), (1 / 255, 1.0)])
def test_transform_warns_of_another_scale_than_in_fit(digits, fitted, given):
    images = digits[:60] * fitted if fitted != 1 else digits[:60]
    model = NRE(**QUICK).fit(images)
    with pytest.warns(UserWarning, match="a model of images on 0…(1|255): expected"):
        model.transform(digits[:60] * given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.transform(images)
        model.transform(images * 1.0)
        model.transform(images[:5] * 0)
        model.transform(digits[:60])


def test_failed_fit_leaves_the_model_as_it_was(digits):
    model = NRE(**QUICK).fit(digits[:60])
    before = model.transform(digits[:9])
    model.set_params(lr=1e30)
    with pytest.raises(NearfarError):
        model.fit(digits[:60] / 16)
    assert (model.transform(digits[:9]) == before).all()


@pytest.mark.parametrize("scale", [1, 1 / 255, 7.5])
def test_reconstructions_stay_on_the_scale_of_fit(digits, scale):
    """Whatever a decoder of the caller's own gives."""
    network = linear_network()
    with torch.no_grad():
        network.decoder[0].bias.copy_(torch.linspace(-9, 9, 64))
    images = digits[:60] if scale == 1 else digits[:60] * scale
    model = NRE(config=own(network)).fit(images)
    for made in (model.reconstruct(images), model.inverse_transform(np.zeros((1, 5)))):
        assert made.min() == 0
        assert made.max() == pytest.approx(model.run_.config.data.pixel_range[1])


def test_pipeline_and_clone(digits, digit_labels):
    pipeline = make_pipeline(
        NRE(**QUICK | {"pretrain_epochs": 20}, batch_size=16), LogisticRegression(max_iter=500)
    )
    pipeline.fit(digits[:300].reshape(300, -1), digit_labels[:300])
    score = pipeline.score(digits[300:].reshape(-1, 64), digit_labels[300:])
    assert score > 0.5, "far above the 0.1 of chance"
    assert clone(pipeline).get_params()["nre__embedding_size"] == 12
    assert pipeline[:1].get_feature_names_out()[0] == "nre0"


def test_own_network_is_needed_to_load_its_run(digits, tmp_path):
    network = linear_network(5)
    model = clone(NRE(config=own(network))).fit(digits[:100])
    model.save(tmp_path / "run")
    with pytest.raises(NearfarError, match="your own network .*Autoencoder: pass it"):
        NRE.load(tmp_path / "run")
    again = NRE.load(tmp_path / "run", network=network)
    np.testing.assert_array_equal(again.transform(digits[:9]), model.transform(digits[:9]))
    assert again.config.network is network, "so that it can be fit again"
    with pytest.raises(NearfarError, match="of another network"):
        NRE.load(tmp_path / "run", network=linear_network(6))


@pytest.mark.parametrize("pandas", ["set_output", "config_context"])
def test_kneighbors_of_new_images_with_pandas_output(model, digits, pandas):
    pytest.importorskip("pandas")
    expected = model.kneighbors(digits[300:304], return_distance=False)
    if pandas == "set_output":
        fitted = NRE(**QUICK).fit(digits[:300]).set_output(transform="pandas")
        found = fitted.kneighbors(digits[300:304], return_distance=False)
        assert list(fitted.transform(digits[:2]).columns[:2]) == ["nre0", "nre1"]
    else:
        with sklearn.config_context(transform_output="pandas"):
            found = model.kneighbors(digits[300:304], return_distance=False)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected)


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
        (lambda m, x: NRE(config=own(torch.nn.Flatten())).fit(x), "Flatten: pass it, as"),
        (lambda m, x: NRE(**{**QUICK, "device": "abacus"}).fit(x), "abacus"),
    ],
)
def test_estimator_refuses(model, digits, call, culprit):
    with pytest.raises(ValueError, match=culprit):
        call(model, digits[:50])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fit_does_not_depend_on_the_gradient_mode(mode):
    images = np.random.default_rng(0).random((24, 12, 12), np.float32)
    expected = NRE(**QUICK).fit(images).embeddings_
    with mode():
        assert np.array_equal(NRE(**QUICK).fit(images).embeddings_, expected)


SOME = np.random.default_rng(0).random((40, 8, 8))


def test_iterators_are_rejected_and_what_converts_to_an_array_is_used():
    class Converts:
        def __array__(self, dtype=None, copy=None):
            return SOME

    model = NRE(**QUICK).fit(Converts())
    np.testing.assert_array_equal(model.transform(Converts()), model.transform(SOME))
    with pytest.raises(NearfarError, match="'X' is an iterator"):
        model.transform(image for image in SOME)


def test_device_may_be_of_torch_and_numbers_are_float32_by_default():
    model = NRE(**QUICK | {"device": torch.device("cpu")}).fit(SOME)
    assert model.run_.config.train.device == "cpu"
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(NearfarError, match="torch's default type is float64"):
            model.transform(SOME)
    finally:
        torch.set_default_dtype(torch.float32)
