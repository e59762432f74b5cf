"""Guards, detectors, attacks, and what they promise."""

from __future__ import annotations

import copy
import csv
import json
import math
import re
import shutil
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nearfar.training.config import TrainConfig
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from nearfar.data import ArrayImages, Subset
from nearfar.defense import (
    Classifier,
    Detector,
    Guarded,
    NeighborPurifier,
    Purifier,
    load_classifier,
    magnet,
    save_classifier,
    train_classifier,
)
from nearfar.defense.classifiers import classify, pixels_of
from nearfar.defense.guard import REJECTED, highest_accepted
from nearfar.defense.purifier import ReconstructionError
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.training.train import train
from program import run

pytest.importorskip("art", reason="the extra `defense` is not installed")

from nearfar.defense.assessment import assess
from nearfar.defense.attacks import ATTACKS, attack
from nearfar.defense.robustness import (
    check_better_than_chance,
    gradient_masking,
    judge,
    security_curve,
)
from nearfar.defense.threats import THREATS, Averaged, WithRejection
from nearfar.report.attacks import write_assessment

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def images(digits, digit_labels):
    return ArrayImages(digits[:, None], digit_labels)


@pytest.fixture(scope="module")
def learned(images):
    return Subset(images, np.arange(1000))


@pytest.fixture(scope="module")
def clean(images):
    """Images that nothing is trained on, float[n, c, h, w], and their labels."""
    held_out = Subset(images, np.arange(1000, 1797))
    return pixels_of(held_out), torch.from_numpy(held_out.labels)


@pytest.fixture(scope="module")
def classifier(learned):
    return train_classifier("target", learned, epochs=40, device="cpu")


@pytest.fixture(scope="module")
def substitute(learned, classifier):
    few = Subset(learned, np.arange(150))
    labels = classify(classifier, pixels_of(few))
    return train_classifier("substitute", few, epochs=150, labels=labels, device="cpu")


@pytest.fixture(scope="module")
def trained(learned):
    config = TrainConfig(
        embedding_size=32, pretrain_epochs=30, epochs=2, batch_size=64, clusters=8, device="cpu"
    )
    return train(learned, config)


@pytest.fixture(scope="module")
def purifier(trained):
    return Purifier(trained.autoencoder, SHAPE)


@pytest.fixture(scope="module")
def reformer(trained):
    return Purifier(trained.pretrained, SHAPE)


# --- classifiers ---------------------------------------------------------------------------------


def test_a_classifier_learns_and_is_read_back(classifier, clean, tmp_path):
    pixels, labels = clean
    assert float((classify(classifier, pixels) == labels).double().mean()) > 0.9
    save_classifier(tmp_path / "it.safetensors", classifier)
    again = load_classifier(tmp_path / "it.safetensors")
    assert torch.equal(again(pixels), classifier(pixels))


def test_training_depends_on_the_seed_alone(learned):
    some = Subset(learned, np.arange(60))
    torch.manual_seed(5)
    one = train_classifier("substitute", some, epochs=1, seed=3, device="cpu")
    torch.manual_seed(6)
    two = train_classifier("substitute", some, epochs=1, seed=3, device="cpu")
    other = train_classifier("substitute", some, epochs=1, seed=4, device="cpu")
    weights = [model.layers[0].weight for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", None])
def test_a_file_that_is_no_classifier_is_refused(tmp_path, content):
    path = tmp_path / "it.safetensors"
    if content is None:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(NearfarError, match=r"it\.safetensors"):
        load_classifier(path)


# --- purification --------------------------------------------------------------------------------


def test_purifying_is_reconstructing(trained, purifier, clean):
    pixels, _ = clean
    with torch.no_grad():
        expected = trained.autoencoder.cpu().eval()(pixels).reconstruction
    torch.testing.assert_close(purifier.purify(pixels), expected)
    bytes_ = (pixels * 255).round().byte()
    torch.testing.assert_close(purifier.purify(bytes_), expected, atol=1e-4, rtol=1e-3)
    error = (expected - pixels).square().flatten(1).mean(1)
    torch.testing.assert_close(purifier.suspicion(pixels), error)


def test_passes_are_purifications_of_purifications(trained, purifier, clean):
    pixels, _ = clean
    twice = Purifier(trained.autoencoder, SHAPE, passes=2).purify(pixels)
    torch.testing.assert_close(twice, purifier.purify(purifier.purify(pixels)))


def test_noise_is_random_and_small_noise_changes_little(trained, purifier, clean):
    pixels, _ = clean
    noisy = Purifier(trained.autoencoder, SHAPE, noise=0.3)
    assert noisy.random
    assert not purifier.random
    assert not torch.equal(noisy.purify(pixels), noisy.purify(pixels))
    faint = Purifier(trained.autoencoder, SHAPE, noise=1e-4).purify(pixels)
    torch.testing.assert_close(faint, purifier.purify(pixels), atol=1e-2, rtol=0)


def test_codes_are_replaced_by_the_mean_of_the_nearest(trained, clean):
    pixels, _ = clean
    projecting = NeighborPurifier(trained.autoencoder, SHAPE, trained.embeddings, neighbors=3)
    network = trained.autoencoder.cpu().eval()
    with torch.no_grad():
        embeddings = network.encoder(pixels[:20])
        normal = nn.functional.normalize
        nearest = (normal(embeddings) @ normal(trained.embeddings).T).topk(3).indices
        expected = network.decoder(trained.embeddings[nearest].mean(1))
    torch.testing.assert_close(projecting.purify(pixels[:20]), expected)


@pytest.mark.parametrize("options", [{}, {"passes": 2}, {"noise": 0.1}, {"neighbors": 3}])
def test_gradients_pass_through_every_kind_of_purification(trained, classifier, clean, options):
    make = (
        Purifier
        if "neighbors" not in options
        else partial(NeighborPurifier, bank=trained.embeddings)
    )
    guarded = make(trained.autoencoder, SHAPE, **options).guard(classifier)
    pixels = clean[0][:8].clone().requires_grad_()
    cross_entropy(guarded(pixels), clean[1][:8]).backward()
    assert float(pixels.grad.abs().amax((1, 2, 3)).min()) > 0


@pytest.mark.parametrize("at_once", [2**24, 1000])
def test_the_gradient_of_nearest_codes_is_that_of_their_softened_mean(
    trained, clean, at_once, monkeypatch
):
    monkeypatch.setattr("nearfar.defense.neighbors.AT_ONCE", at_once)
    network = copy.deepcopy(trained.autoencoder).cpu().eval()
    pixels = clean[0][:5].clone().requires_grad_()
    purifier = NeighborPurifier(network, SHAPE, trained.embeddings, neighbors=3)
    (found,) = torch.autograd.grad(purifier(pixels).sum(), pixels)

    embeddings = network.encoder(pixels)
    similarity = nn.functional.normalize(embeddings) @ nn.functional.normalize(trained.embeddings).T
    nearest, rows = similarity.topk(50)
    near = trained.embeddings[rows]
    soft = ((nearest / 0.02).softmax(1).unsqueeze(2) * near).sum(1)
    mean = near[:, :3].mean(1)
    (expected,) = torch.autograd.grad(network.decoder(soft + (mean - soft).detach()).sum(), pixels)
    torch.testing.assert_close(found, expected)


def test_a_classifier_is_asked_about_the_neighbors_and_not_the_image(trained, classifier, clean):
    network, pixels = copy.deepcopy(trained.autoencoder).cpu().eval(), clean[0][:20]
    purifier = NeighborPurifier(network, SHAPE, trained.embeddings, neighbors=3)
    guarded = purifier.guard(classifier, clean=clean[0], false_positive_rate=0.1)
    normal = nn.functional.normalize
    with torch.no_grad():
        embeddings = network.encoder(pixels)
        nearest = (normal(embeddings) @ normal(trained.embeddings).T).topk(3).indices
        seen = network.decoder(trained.embeddings[nearest.flatten()]).clamp(0, 1)
        expected = classifier(seen).softmax(1).unflatten(0, (-1, 3)).mean(1)
    for consensus in (guarded, guarded.without_detectors()):
        torch.testing.assert_close(consensus(pixels).softmax(1), expected, atol=1e-4, rtol=1e-3)
    assert float(guarded.suspicion(clean[0]).max()) > 1
    assert float(guarded.without_detectors().suspicion(clean[0]).max()) == 0


def test_the_network_of_the_caller_is_left_alone(trained):
    before = [weights.requires_grad for weights in trained.autoencoder.parameters()]
    Purifier(trained.autoencoder, SHAPE)
    assert [weights.requires_grad for weights in trained.autoencoder.parameters()] == before
    assert any(before)


# --- detectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_false_positive_rate_on_other_clean_images_is_close_to_the_stated(
    purifier, classifier, clean, rate
):
    pixels, labels = clean
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    validation, held_out = order[:400], order[400:]
    guarded = purifier.guard(classifier, clean=pixels[validation], false_positive_rate=rate)
    assert judge(guarded, pixels[validation], labels[validation]).rejected <= rate
    rejected = judge(guarded, pixels[held_out], labels[held_out]).rejected
    # Both the threshold and the share are estimates: four standard errors.
    assert abs(rejected - rate) < 4 * (rate * (1 - rate) * (1 / 400 + 1 / len(held_out))) ** 0.5


def test_all_of_magnet_together_keeps_the_stated_rate(reformer, classifier, clean):
    pixels, labels = clean
    guarded = magnet(reformer, classifier, pixels[:400], false_positive_rate=0.06)
    assert len(guarded.detectors) == 3
    assert 0 < judge(guarded, pixels[:400], labels[:400]).rejected <= 0.06


def test_noise_is_rejected_and_counted_as_defended(purifier, classifier, clean):
    pixels, labels = clean
    guarded = purifier.guard(classifier, clean=pixels[:400], false_positive_rate=0.01)
    noise = torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert (guarded.predict(noise) == REJECTED).all()
    assert judge(guarded, noise, labels[:50]).defended == 1


def test_the_jensen_shannon_divergence_is_scipys(reformer, classifier, clean):
    from scipy.spatial.distance import jensenshannon

    from nearfar.defense.magnet import JensenShannon

    pixels = clean[0][:30]
    with torch.no_grad():
        score = JensenShannon(reformer, classifier, 10.0)(pixels)
        p, q = (
            torch.softmax(classifier(each) / 10, 1).numpy() for each in (pixels, reformer(pixels))
        )
    np.testing.assert_allclose(score, jensenshannon(p, q, axis=1) ** 2, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_the_divergence_of_sure_classifiers_is_a_number(scale):
    from nearfar.defense.magnet import JensenShannon

    class Sure(nn.Module):
        def forward(self, images):
            return scale * torch.nn.functional.one_hot(images[:, 0, 0, 0].gt(0).long(), 2).float()

    images = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).requires_grad_()

    class Swap(nn.Module):
        def forward(self, images):
            return -images

    score = JensenShannon(Swap(), Sure(), 1.0)(images)
    torch.testing.assert_close(score, torch.full((2,), math.log(2)))


def test_scores_that_are_no_numbers_give_no_threshold():
    with pytest.raises(NearfarError, match="not all finite"):
        highest_accepted(torch.tensor([1.0, float("nan"), 2.0]), 0.5)


def test_too_few_images_for_a_rate_are_refused(purifier, clean):
    with pytest.raises(NearfarError, match="at least 1000 images"):
        Detector(ReconstructionError(purifier)).calibrate(clean[0], 0.001)


# --- attacks -------------------------------------------------------------------------------------


def test_fgsm_is_the_sign_of_the_gradient(classifier, purifier, clean):
    pixels, labels = clean[0][:64], clean[1][:64]
    guarded = purifier.guard(classifier)
    for threat, seen in (("white-box-unaware", classifier), ("white-box-aware", guarded)):
        variable = pixels.clone().requires_grad_()
        cross_entropy(seen(variable), labels).backward()
        expected = (pixels + 0.1 * variable.grad.sign()).clamp(0, 1)
        (found,) = attack("fgsm", threat, guarded, pixels, labels, [0.1])
        # A gradient of nearly zero may have either sign.
        same = (found - expected).abs() < 1e-5
        assert float(same[variable.grad.abs() > 1e-7].double().mean()) > 0.999


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"autoattack"}))
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(epsilon=st.floats(0.004, 1.0), first=st.integers(0, 700), seed=st.integers(0, 100))
def test_attacks_stay_in_the_ball_and_in_range(
    classifier, purifier, clean, name, epsilon, first, seed
):
    pixels, labels = (each[first : first + 3] for each in clean)
    labels = labels.clone()
    labels[0] = (labels[1] + 1) % 10  # not all of one class
    threat = "decision-based" if name in ("square", "hop-skip-jump") else "white-box-aware"
    guarded = purifier.guard(classifier)
    (found,) = attack(name, threat, guarded, pixels, labels, [epsilon], seed=seed)
    assert found.shape == pixels.shape
    assert found.dtype == torch.float32
    assert float((found - pixels).abs().max()) <= epsilon + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


@pytest.mark.slow
def test_autoattack_is_the_strongest(classifier, purifier, clean):
    pixels, labels = (each[:4] for each in clean)
    guarded = purifier.guard(classifier)
    harm = {}
    for name in ("fgsm", "autoattack"):
        (found,) = attack(name, "white-box-aware", guarded, pixels, labels, [0.1])
        assert float((found - pixels).abs().max()) <= 0.1 + 1e-6
        harm[name] = judge(guarded, found, labels).accuracy
    assert harm["autoattack"] <= harm["fgsm"]


@pytest.mark.parametrize("name", ["pgd", "hop-skip-jump"])
def test_attacks_depend_on_the_seed_alone(classifier, purifier, clean, name):
    pixels, labels = (each[:6] for each in clean)
    threat = "decision-based" if name == "hop-skip-jump" else "white-box-aware"
    guarded = purifier.guard(classifier)
    found = []
    for seed in (0, 0, 1):
        np.random.seed(len(found))
        before = np.random.get_state()[1].copy()
        (made,) = attack(name, threat, guarded, pixels, labels, [0.2], seed=seed)
        assert (np.random.get_state()[1] == before).all()
        found.append(made)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_hop_skip_jump_ends_where_rounding_hides_the_only_way():
    # In float32, 1/255 + (3/255 − 1/255) is less than 3/255.
    clean, other = (torch.full((1, 1, 2, 2), value / 255) for value in (1, 3))
    asked = 0

    class OnlyThatImage(nn.Module):
        def forward(self, images):
            nonlocal asked
            asked += len(images)
            assert asked < 100_000, "the attack does not end"
            is_other = (images == other).flatten(1).all(1).float()
            return torch.stack([1 - is_other, is_other], 1)

    guarded = Guarded(nn.Identity(), OnlyThatImage())
    images, labels = torch.cat([clean, other]), torch.tensor([0, 1])
    (found,) = attack("hop-skip-jump", "decision-based", guarded, images, labels, [1.0])
    assert torch.equal(found[0], other[0])


def test_hop_skip_jump_leaves_alone_what_is_missed_without_it(classifier, clean):
    pixels, labels = (each[:12] for each in clean)
    guarded = Guarded(nn.Identity(), classifier)
    labels = labels.clone()
    labels[::3] = (guarded.predict(pixels[::3]) + 1) % 10
    (found,) = attack("hop-skip-jump", "decision-based", guarded, pixels, labels, [1.0])
    same = (found == pixels).flatten(1).all(1)
    assert same[::3].all(), "an attack sets nothing right"
    assert not same[1::3].any()


def test_the_more_an_attack_sees_the_more_it_does(classifier, substitute, purifier, clean):
    pixels, labels = (each[:200] for each in clean)
    guarded = purifier.guard(classifier)
    harm = {
        threat: security_curve(
            "pgd", threat, guarded, pixels, labels, [0.2], substitute=substitute
        )[0].accuracy
        for threat in ("transfer", "white-box-aware")
    }
    assert harm["white-box-aware"] < harm["transfer"] < judge(guarded, pixels, labels).accuracy
    unguarded = Guarded(nn.Identity(), classifier)
    unaware, aware = (
        security_curve("pgd", threat, unguarded, pixels, labels, [0.2])
        for threat in ("white-box-unaware", "white-box-aware")
    )
    assert unaware == aware


def test_an_attack_on_detectors_evades_them(reformer, classifier, clean):
    pixels, labels = clean
    guarded = magnet(reformer, classifier, pixels[:400], false_positive_rate=0.06)
    some, truth = pixels[400:460], labels[400:460]
    blind = security_curve("pgd", "white-box-unaware", guarded, some, truth, [0.3])[0]
    evading = security_curve("pgd", "white-box-aware", guarded, some, truth, [0.3])[0]
    assert evading.defended < blind.defended


def test_a_rejection_is_the_largest_logit(reformer, classifier, clean):
    pixels, _ = clean
    guarded = magnet(reformer, classifier, pixels[:400], false_positive_rate=0.3)
    with torch.no_grad():
        found = WithRejection(guarded)(pixels).argmax(1)
    predicted = guarded.predict(pixels)
    assert (predicted == REJECTED).any()
    assert torch.equal(torch.where(found == 10, REJECTED, found), predicted)


def test_an_attack_finds_its_way_though_all_near_rows_agree():
    """Bright left and bright right halves, many of each: 50 nearest are always of one kind."""
    halves = torch.zeros(2, *SHAPE)
    halves[0, ..., :4], halves[1, ..., 4:] = 0.9, 0.9
    noise = torch.rand(2, 100, 64, generator=torch.Generator().manual_seed(0)) / 10
    bank = (halves.flatten(1).unsqueeze(1) + noise).flatten(0, 1)
    sides = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        sides[1].weight.copy_(1000 * halves.flatten(1))
    network = Autoencoder(nn.Flatten(), nn.Unflatten(1, SHAPE))
    guarded = NeighborPurifier(network, SHAPE, bank).guard(sides)
    labels = torch.tensor([0, 1])
    assert judge(guarded, halves, labels).accuracy == 1
    curve = security_curve("pgd", "white-box-aware", guarded, halves, labels, [0.1, 0.6])
    assert [outcome.accuracy for outcome in curve] == [1, 0]


def test_averaging_gives_the_mean_probability(trained, classifier, clean):
    pixels = clean[0][:5]
    guarded = Purifier(trained.autoencoder, SHAPE, noise=0.3).guard(classifier)
    with torch.no_grad():
        many = torch.stack([guarded(pixels).softmax(1) for _ in range(400)]).mean(0)
        averaged = Averaged(guarded, 400)(pixels).softmax(1)
        exact = Averaged(classifier, 3)(pixels).softmax(1)
        expected = classifier(pixels).softmax(1)
    torch.testing.assert_close(averaged, many, atol=0.1, rtol=0)
    torch.testing.assert_close(exact, expected)


# --- gradient masking ----------------------------------------------------------------------------


class Staircase(nn.Module):
    """Rounds what it is given: right, but without gradients."""

    def forward(self, images):
        return images.mul(4).round().div(4)


def test_masked_gradients_are_flagged_and_plain_ones_not(classifier, purifier, clean):
    pixels, labels = (each[:200] for each in clean)
    masked = Guarded(Staircase(), classifier)
    assert judge(masked, pixels, labels).accuracy > 0.85
    assert gradient_masking(masked, pixels, labels).masked
    for plain in (Guarded(nn.Identity(), classifier), purifier.guard(classifier)):
        found = gradient_masking(plain, pixels, labels)
        assert not found.masked
        assert found.accuracy <= found.chance < 0.25


def verdict(folder, assessment):
    how = {"run": None, "passes": 1, "noise": 0.0, "neighbors": 0}
    settings = {"classifier": "it", "data": "these", **how}
    return write_assessment(folder, assessment, settings).splitlines()[-1]


def test_only_of_a_hundred_images_it_is_said_whether_gradients_are_masked(
    classifier, clean, tmp_path
):
    images = ArrayImages(clean[0][:300], clean[1][:300].numpy())
    chosen = {"attacks": ["fgsm"], "epsilons": [0.1]}
    plain = Guarded(nn.Identity(), classifier)
    told = verdict(tmp_path, assess(plain, images, **chosen, count=100))
    assert re.search(r"falls to \d+\.\d%: no sign of masking \(chance here: up to 2\d\.\d%\)", told)
    masked = Guarded(Staircase(), classifier)
    told = verdict(tmp_path, assess(masked, images, **chosen, count=100))
    assert "gradients are masked" in told
    assert json.loads((tmp_path / "attack.json").read_text())["masking"]["masked"]
    few = assess(masked, images, **chosen, count=99)
    assert "99 images are too few to tell whether gradients are masked" in verdict(tmp_path, few)
    assert json.loads((tmp_path / "attack.json").read_text())["masking"] is None


# --- ART -----------------------------------------------------------------------------------------


def test_a_purifier_works_inside_art(classifier, purifier, clean):
    from art.estimators.classification import PyTorchClassifier

    from nearfar.defense.preprocessor import PurifierPreprocessor

    inside = PyTorchClassifier(
        classifier,
        loss=nn.CrossEntropyLoss(),
        input_shape=SHAPE,
        nb_classes=10,
        clip_values=(0.0, 1.0),
        preprocessing_defences=PurifierPreprocessor(purifier),
        device_type="cpu",
    )
    pixels, labels = clean[0][:20].numpy(), clean[1][:20].numpy()
    guarded = purifier.guard(classifier)
    with torch.no_grad():
        expected = guarded(clean[0][:20]).numpy()
    np.testing.assert_allclose(inside.predict(pixels), expected, rtol=1e-4, atol=1e-4)
    variable = clean[0][:20].clone().requires_grad_()
    cross_entropy(guarded(variable), clean[1][:20], reduction="sum").backward()
    found = inside.loss_gradient(pixels, np.eye(10, dtype=np.float32)[labels])
    ours = variable.grad.numpy()
    cosine = (found * ours).sum() / np.linalg.norm(found) / np.linalg.norm(ours)
    assert cosine > 0.999


class OfTwo(nn.Module):
    """The first two classes alone."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier(images)[:, :2]


class Asserting(nn.Module):
    """A classifier of somebody who trusts in assertions."""

    def forward(self, images):
        assert images.shape[1] == 3
        return images.flatten(1)[:, :10]


def test_an_assessment_depends_on_the_seed_alone(trained, classifier, clean):
    images = ArrayImages(clean[0][:200], clean[1][:200].numpy())
    guarded = Purifier(trained.autoencoder, SHAPE, noise=0.3).guard(classifier)
    found = []
    for other in (1, 2):
        torch.manual_seed(other)
        found.append(assess(guarded, images, attacks=["fgsm"], epsilons=[0.1], count=50))
    assert found[0] == found[1]


def test_an_attacker_need_not_have_seen_the_last_class(purifier, classifier, clean):
    pixels, labels = clean
    nine = classify(classifier, pixels) == 9
    chosen = torch.cat([torch.where(~nine)[0][:30], torch.where(nine)[0][:10]])
    places = torch.from_numpy(np.random.default_rng(0).permutation(40)).argsort()
    images = ArrayImages(pixels[chosen][places], labels[chosen][places].numpy())
    found = assess(purifier.guard(classifier), images, attacks=["fgsm"], epsilons=[0.1])
    assert ("transfer", "fgsm") in found.curves


def test_a_file_that_claims_to_be_huge_takes_no_memory(classifier, tmp_path):
    save_classifier(tmp_path / "a.safetensors", classifier)
    about = {
        "architecture": "target",
        "shape": "[1, 100000, 100000]",
        "classes": "10",
    }
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        about["kind"] = file.metadata()["kind"]
    save_file(classifier.state_dict(), tmp_path / "b.safetensors", metadata=about)
    with pytest.raises(NearfarError, match="is damaged"):
        load_classifier(tmp_path / "b.safetensors")


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x * 255, r"values in 0…25\d"),
        (lambda x: x - 0.5, "values in -0.5"),
        (lambda x: x.masked_fill(x > 0.9, torch.nan), "nan"),
        (lambda x: x.permute(0, 2, 3, 1), r"shape \(5, 8, 8, 1\)"),
        (lambda x: x.expand(-1, 3, -1, -1), r"shape \(5, 3, 8, 8\)"),
        (lambda x: x[0], r"shape \(1, 8, 8\)"),
        (lambda x: x.long(), "int64"),
    ],
)
def test_images_of_another_range_or_layout_are_refused(purifier, clean, change, expected):
    with pytest.raises(NearfarError, match=expected) as refused:
        purifier(change(clean[0][:5]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda p, c, x, y: p.guard(Classifier("target", (1, 28, 28), 10)), "does not take images"),
        (lambda p, c, x, y: p.guard(nn.Flatten(0)), "expected logits"),
        (
            lambda p, c, x, y: [*attack("fgsm", "white-box-aware", p.guard(c), x, y, [0])],
            "epsilon=0",
        ),
        (
            lambda p, c, x, y: [*attack("fgsm", "white-box-aware", p.guard(c), x, y, [8])],
            "epsilon=8",
        ),
        (
            lambda p, c, x, y: [*attack("fgsm", "white-box-aware", p.guard(c), x, y, [])],
            "no epsilon",
        ),
        (
            lambda p, c, x, y: [*attack("magic", "white-box-aware", p.guard(c), x, y, [1])],
            "'magic'",
        ),
        (lambda p, c, x, y: [*attack("pgd", "decision-based", p.guard(c), x, y, [1])], "square"),
        (
            lambda p, c, x, y: [
                *attack("autoattack", "white-box-aware", Guarded(p, OfTwo(c)), x, y % 2, [1])
            ],
            "on 2 classes",
        ),
        (lambda p, c, x, y: p.guard(Asserting()), "does not take images .*: assert"),
        (lambda p, c, x, y: assess(p.guard(c), ArrayImages(x, y.numpy() - 1)), "of class -1"),
        (lambda p, c, x, y: assess(p.guard(c), ArrayImages(x, y.numpy() * 0)), "all of class 0"),
        (
            lambda p, c, x, y: assess(p.guard(c), ArrayImages(x, y.numpy()), attacks=[]),
            "no attacks",
        ),
        (lambda p, c, x, y: [*attack("fgsm", "transfer", p.guard(c), x, y, [1])], "substitute"),
        (lambda p, c, x, y: [*attack("fgsm", "magic", p.guard(c), x, y, [1])], "'magic'"),
        (lambda p, c, x, y: Purifier(p.network, SHAPE, passes=0), "passes=0"),
        (lambda p, c, x, y: Purifier(p.network, SHAPE, noise=-1), "noise=-1"),
        (lambda p, c, x, y: p.guard(c, clean=x, false_positive_rate=1.5), "=1.5"),
        (
            lambda p, c, x, y: check_better_than_chance(
                judge(Guarded(nn.Identity(), c), x, (y + 1) % 10), y
            ),
            "commonest class",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(purifier, classifier, clean, call, expected):
    pixels, labels = (each[:50] for each in clean)
    with pytest.raises(NearfarError, match=expected) as refused:
        call(purifier, classifier, pixels, labels)
    assert "\n" not in str(refused.value)


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory, learned, classifier, digits, digit_labels):
    """A run, a classifier, and digits to attack."""
    folder = tmp_path_factory.mktemp("files")
    config = TrainConfig(
        embedding_size=32, pretrain_epochs=20, epochs=1, batch_size=64, clusters=8, device="cpu"
    )
    train(learned, config, folder=folder / "run")
    save_classifier(folder / "classifier.safetensors", classifier)
    np.savez(folder / "digits.npz", images=digits[1000:], labels=digit_labels[1000:])
    np.savez(folder / "bright.npz", images=digits[1000:] // 2 + 128, labels=digit_labels[1000:])
    (folder / "own_models.py").write_text(
        "from torch import nn\n"
        "def good():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "def number():\n    return 5\n"
        "def large():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    return folder


def test_purify(files, purifier, tmp_path, capsys):
    data = files / "digits.npz"
    options = ("--clean", data, "--false-positive-rate", 0.05, "--device", "cpu")
    assert run("purify", files / "run", data, "--out", tmp_path / "out", *options) == 0
    with (tmp_path / "out" / "suspicion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((tmp_path / "out").glob("*.png"))) == 797
    assert sum(int(row["rejected"]) for row in rows) == int(797 * 0.05)
    written = np.array(Image.open(tmp_path / "out" / f"{rows[5]['name']}.png")) / 255
    expected = Purifier.load(files / "run").purify(np.load(data)["images"][5:6, None])
    np.testing.assert_allclose(written, expected[0, 0], atol=0.003)
    assert "39 of them are rejected" in capsys.readouterr().out


def test_a_run_is_read_for_what_purifies(files, clean, tmp_path):
    run_folder = shutil.copytree(files / "run", tmp_path / "run")
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            NeighborPurifier.load(run_folder)
    finally:
        torch.set_warn_always(always)
    whole = Purifier.load(run_folder).purify(clean[0][:5])
    (run_folder / "embeddings.npy").unlink()
    assert torch.equal(Purifier.load(run_folder).purify(clean[0][:5]), whole)


def test_attack_command(files, tmp_path, capsys):
    options = (
        "--run",
        files / "run",
        "--attacks",
        "fgsm",
        "hop-skip-jump",
        "--epsilons",
        0.05,
        0.3,
    )
    arguments = (files / "classifier.safetensors", files / "digits.npz", "--out", tmp_path / "out")
    assert run("attack", *arguments, *options, "--count", 10, "--device", "cpu") == 0
    written = json.loads((tmp_path / "out" / "attack.json").read_text())
    found = [(each["threat"], each["attack"], each["epsilon"]) for each in written["attacks"]]
    threats = ("transfer", "white-box-unaware", "white-box-aware")
    assert found == [
        *((threat, "fgsm", epsilon) for threat in threats for epsilon in (0.05, 0.3)),
        *(("decision-based", "hop-skip-jump", epsilon) for epsilon in (0.05, 0.3)),
    ]
    settings = written["settings"]
    assert (settings["run"], settings["neighbors"]) == (str(files / "run"), 0)
    text = (tmp_path / "out" / "attack.md").read_text()
    assert f"purified by {files / 'run'} (passes 1, noise 0.0, neighbors 0)" in text
    assert text in capsys.readouterr().out
    assert all(threat in text for threat in THREATS)
    assert Image.open(tmp_path / "out" / "attack.png").size[0] > 500


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("attack missing.safetensors digits.npz", "missing.safetensors"),
        ("attack classifier digits.npz", "module:function"),
        ("attack os:getcwd digits.npz", "torch.nn.Module"),
        ("attack own_models:number digits.npz", "is a int"),
        ("attack own_models:absent digits.npz", "AttributeError"),
        ("attack own_models:large digits.npz", "does not take images"),
        ("attack own_models:large digits.npz --run run", "does not take images"),
        ("attack own_models:good bright.npz", "commonest class"),
        ("attack classifier.safetensors digits.npz --epsilons 8", "epsilon=8"),
        ("attack classifier.safetensors digits.npz --attacks magic", "'magic'"),
        ("attack classifier.safetensors digits.npz --count 0", "0 of 797"),
        ("attack classifier.safetensors digits.npz --count 1", "all of class"),
        ("attack missing.safetensors digits.npz --attacks", "no attacks"),
        ("attack classifier.safetensors digits.npz --neighbors 5", "give --run"),
        ("purify run digits.npz --false-positive-rate 0.1", "give --clean"),
        ("purify run digits.npz --noise 3", "noise=3"),
        ("purify run digits.npz --passes 0", "passes=0"),
        ("purify run digits.npz --clean digits.npz --false-positive-rate 2", "=2"),
        ("purify missing digits.npz", "'missing'"),
    ],
)
def test_a_mistake_on_the_command_line(files, tmp_path, monkeypatch, capsys, arguments, culprit):
    monkeypatch.chdir(files)
    torch.manual_seed(0)
    assert run(*arguments.split(), "--out", tmp_path / "out", "--device", "cpu") == 2
    error = capsys.readouterr().err.strip()
    assert culprit in error
    assert len(error.splitlines()) == 1


def test_every_threat_model_says_what_it_sees():
    assert list(THREATS) == ["transfer", "white-box-unaware", "white-box-aware", "decision-based"]
