"""`train`: both phases, networks of one's own, and what comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from interruption import StopAt
from nearfar import runs
from nearfar.config import TrainConfig, configure
from nearfar.data import ArrayImages, to_unit
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.runs import read_run
from nearfar.search import encode
from nearfar.training import Interrupted, resolve_config, train
from trainings import QUICK, assert_same_weights, linear_network, quick, weights

# --- both phases ---------------------------------------------------------------------------------


def test_both_phases_lower_their_loss(images):
    log = train(images, quick(pretrain_epochs=6, epochs=4)).log
    pretrain = [line["loss"] for line in log if line["phase"] == "pretrain"]
    relations = [line["loss"] for line in log if line["phase"] == "train"]
    assert (len(pretrain), len(relations)) == (6, 4)
    assert pretrain[-1] < pretrain[0]
    assert relations[-1] < relations[0]


def test_second_phase_starts_from_the_initial_network(images):
    run = train(images, quick(lr=1e-12, epochs=1))
    after, before = run.network.state_dict(), run.initial.state_dict()
    for name in before:
        torch.testing.assert_close(after[name], before[name])


def test_run_without_a_second_phase_is_an_autoencoder(images):
    run = train(images, quick(epochs=0))
    assert (run.method, run.initial_method) == ("autoencoder", "autoencoder")
    assert_same_weights(run.network.state_dict(), run.initial.state_dict())


def test_run_without_pretraining_starts_from_an_untrained_network(images):
    run = train(images, quick(pretrain_epochs=0))
    assert (run.method, run.initial_method) == ("NRE", "untrained")
    assert [line["phase"] for line in run.log] == ["train"] * 3


@pytest.mark.parametrize(
    ("batch_norm", "hidden"), [(False, 0), (True, 0), (True, 512)], ids=["plain", "norm", "hidden"]
)
def test_train_builds_the_network_of_its_configuration(digits, batch_norm, hidden):
    config = quick(batch_norm=batch_norm, hidden=hidden, pretrain_epochs=1, epochs=0)
    run = train(ArrayImages(digits[:600, None]), config)
    kinds = [type(layer).__name__ for layer in run.network.encoder]
    assert ("BatchNorm2d" in kinds) == batch_norm
    assert [
        layer.out_features for layer in run.network.encoder if hasattr(layer, "out_features")
    ] == [*([hidden] if hidden else []), 12]
    network = run.config.train.network
    assert (network.batch_norm, network.hidden) == (batch_norm, hidden)
    assert run.embeddings.shape == (600, 12)


def test_record_holds_the_defaults_that_depend_on_the_images(images):
    assert train(images, quick(epochs=1)).config.train.network.widths == (16, 32)
    color = ArrayImages(torch.rand(4, 3, 32, 32))
    for shown, name in ((images, "shapes"), (color, "photos")):
        assert resolve_config(quick(objective="contrastive"), shown).objective.augmentation == name
    assert resolve_config(quick(backbone="timm:resnet18"), color).network.widths


def test_mixed_precision_learns_about_the_same(images):
    full, mixed = (
        train(images, quick(pretrain_epochs=6, precision=p)).log[-1] for p in ("32", "bf16")
    )
    for term in ("own", "near", "far", "pixel"):
        assert mixed[term] == pytest.approx(full[term], rel=0.2)
    assert mixed["own"] != full["own"]


def test_train_leaves_the_random_numbers_of_the_caller_alone(images):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(images, quick(pretrain_epochs=1, epochs=1))
    assert torch.equal(torch.rand(3), expected)


# --- networks of one's own -----------------------------------------------------------------------


def test_own_network_is_copied(images):
    network = linear_network(5, torch.nn.Dropout())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run = train(images, quick(network=network))
    assert run.embeddings.shape == (300, 5)
    assert run.network.encoder is not network.encoder
    assert_same_weights(network.state_dict(), before)
    assert run.initial_method == "autoencoder", "it may have been trained before"


class Mirrored(torch.nn.Module):
    """A decoder with the weights of the encoder's layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, embeddings):
        return torch.sigmoid(embeddings @ self.layer.weight).unflatten(1, (1, 8, 8))


def test_own_network_that_shares_weights_still_shares_them_when_read(tmp_path, images):
    layer = torch.nn.Linear(64, 5)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), layer)
    network = Autoencoder(encoder, Mirrored(layer))
    config = quick(network=network)
    train(images, config, folder=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(images, config, folder=tmp_path / "parts", track=StopAt(12))
    train(images, config, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    read = runs.read_run(tmp_path / "whole", network).network
    assert read.encoder[1].weight is read.decoder.layer.weight
    saved = weights(tmp_path / "whole")
    assert torch.equal(saved["network.decoder.layer.weight"], read.encoder[1].weight)


# --- what comes out ------------------------------------------------------------------------------


def test_nonfinite_weights_of_the_last_step_are_not_written(tmp_path, images):
    class Brittle(torch.nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) + (0 * self.weight.sum()).sqrt()  # whose slope is none

    network = linear_network()
    network.encoder[1] = Brittle(64, 5)
    once = quick(network=network, pretrain_epochs=1, epochs=0, batch_size=300)
    with pytest.raises(NearfarError, match="no longer finite after the last step"):
        train(images, once, folder=tmp_path / "run")
    assert not runs.is_finished(tmp_path / "run")


def test_bank_on_disk_changes_no_more_than_its_precision(tmp_path, images):
    memory, disk = (
        train(images, quick(bank=bank), folder=tmp_path / bank) for bank in ("memory", "disk")
    )
    for one, other in zip(memory.log, disk.log, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    np.testing.assert_allclose(memory.embeddings, disk.embeddings, rtol=1e-2, atol=1e-2)
    with torch.no_grad():
        again = disk.network.eval().encoder(to_unit(images.batch(range(len(images)))))
    torch.testing.assert_close(torch.from_numpy(disk.embeddings), again)
    np.testing.assert_array_equal(runs.read_run(tmp_path / "disk").embeddings, disk.embeddings)
    assert not (tmp_path / "disk" / "bank").exists()


def test_features_are_trained_by_a_dense_network():
    features = ArrayImages(np.random.default_rng(0).random((60, 1, 1, 12), np.float32))
    config = quick(
        objective="contrastive",
        refresh_neighbors_every=1,
        pretrain_epochs=0,
        epochs=2,
        batch_size=20,
    )
    assert np.isfinite(train(features, config).embeddings).all()


def test_weights_of_a_run_are_those_of_its_file(tmp_path, images):
    run = train(images, QUICK, folder=tmp_path / "run")
    saved = load_file(tmp_path / "run" / runs.MODEL)
    networks = {"network.": run.network, "initial.": run.initial}
    expected = {p + k: v for p, net in networks.items() for k, v in net.state_dict().items()}
    assert_same_weights(saved, expected)
    assert isinstance(run.config.train, TrainConfig)


@pytest.mark.parametrize("name", ["paper", "nearfar"])
def test_images_may_have_more_than_three_channels(name, tmp_path):
    images = ArrayImages(np.random.default_rng(0).random((40, 5, 16, 16), np.float32))
    options = {"pretrain_epochs": 1, "epochs": 1, "batch_size": 8, "clusters": 3, "device": "cpu"}
    run = train(images, configure(options, recipe=name), folder=tmp_path / "run")
    found = encode(read_run(tmp_path / "run"), images, device="cpu")
    np.testing.assert_allclose(found, run.embeddings, atol=1e-5)
