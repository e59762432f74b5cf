"""Objectives, finders, similarities and networks of one's own: recorded, resumed, refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from interruption import StopAt
from nearfar import NRE, runs
from nearfar.augmentation import ShapeAugmentation
from nearfar.config import Recorded, TrainConfig, configure, flatten
from nearfar.data import Images
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.neighbors import ClusteredFinder, Cosine, ExactFinder
from nearfar.training import Interrupted, Objective, Step, estimate, train
from trainings import QUICK, assert_same_weights, changed, linear_network, quick, weights


class PixelL1(Objective):
    """Mean absolute pixel error; `seen` counts images, to show that state is resumed."""

    def setup(self, network, state):
        self.seen = state.get("seen", torch.zeros(()))
        return network

    def __call__(self, model, rows, images, epoch):
        output = model(images)
        loss = (output.reconstruction - images).abs().mean()
        self.seen = self.seen + len(rows)
        return Step(loss, output.embeddings, {"pixel_l1": loss.detach()})

    def state(self):
        return {"seen": self.seen}


class OtherL1(PixelL1):
    """The same, by another name."""


@dataclass(frozen=True)
class Distance:
    """A similarity: the negative distance from a center that the bank decides."""

    center: torch.Tensor

    def __call__(self, a, b):
        return 1 - (a - b).norm(dim=-1)

    def keys(self, embeddings):
        centered = embeddings - self.center
        return torch.cat([centered, centered.square().sum(-1, keepdim=True) / -2], -1)

    def queries(self, embeddings):
        return torch.cat([embeddings - self.center, torch.ones_like(embeddings[..., :1])], -1)

    def state(self):
        return {"center": self.center}


def distance(bank):
    return Distance(bank[:].mean(0))


class Wide(ExactFinder):
    """A finder."""


class WidthNet(Autoencoder):
    """A network."""

    def __init__(self):
        super().__init__(*linear_network(7).children())


#: By what is the user's own: its configuration, another one of the same kind, option and name.
OWN = {
    "objective": (quick(objective=PixelL1), quick(objective=OtherL1), "objective", PixelL1),
    "finder": (quick(finder=Wide), quick(finder=ExactFinder), "finder", Wide),
    "similarity": (quick(similarity=distance), quick(similarity=Cosine), "similarity", distance),
    "augmentation": (
        quick(objective="contrastive", augmentation=ShapeAugmentation(degrees=3)),
        quick(objective="contrastive", augmentation=torch.nn.Identity()),
        "augmentation",
        ShapeAugmentation,
    ),
    "network": (quick(network=WidthNet()), quick(network=linear_network(7)), "network", WidthNet),
    "reference": (
        quick(reference=linear_network().encoder),
        quick(reference=torch.nn.Flatten()),
        "reference",
        torch.nn.Sequential,
    ),
}
each_own = pytest.mark.parametrize(("config", "other", "option", "kind"), OWN.values(), ids=OWN)


def recorded_name(kind):
    return f"{kind.__module__}.{kind.__qualname__}"


@each_own
def test_own_object_is_recorded_by_name(images, tmp_path, config, other, option, kind):
    run = train(images, config, folder=tmp_path / "run")
    assert len(run.log) == 5
    saved = json.loads((tmp_path / "run" / runs.CONFIG).read_text())["train"]
    assert flatten(saved)[option] == {"custom": recorded_name(kind)}
    read = runs.read_config(tmp_path / "run").train
    assert flatten(read)[option] == Recorded(recorded_name(kind))
    assert TrainConfig.from_dict(read.to_dict()) == read


@each_own
def test_own_object_is_resumed_when_passed_again(images, tmp_path, config, other, option, kind):
    train(images, config, folder=tmp_path / "whole")
    parts = tmp_path / "parts"
    with pytest.raises(Interrupted):
        train(images, config, folder=parts, track=StopAt(18))
    for wrong, culprit in ((other, f"started with {option}="), (QUICK, "started with")):
        with pytest.raises(NearfarError, match=culprit) as caught:
            train(images, wrong, folder=parts, resume=True)
        assert recorded_name(kind) in str(caught.value) or wrong is QUICK
    with pytest.raises(NearfarError, match=kind.__name__):
        train(images, runs.read_config(parts).train, folder=parts, resume=True)
    train(images, config, folder=parts, resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(parts))


@each_own
def test_own_object_is_an_option_of_configure_and_of_the_estimator(
    images, tmp_path, config, other, option, kind
):
    assert configure({option: flatten(config)[option]}, base=config) == config
    model = NRE(config=config).fit(images)
    assert model.transform(images).shape == model.embeddings_.shape
    assert estimate(images, config, tmp_path / "none").memory > 0


def test_run_of_an_own_objective_claims_no_relation(images, tmp_path):
    run = train(images, quick(objective=PixelL1), folder=tmp_path / "run")
    assert run.method == "PixelL1"
    assert "pixel_l1" in run.log[-1]
    assert runs.read_run(tmp_path / "run").method == "PixelL1"
    text = (tmp_path / "run" / runs.CONFIG).read_text()
    for word in ("weights", "relational", "finder", "similarity", "neighbors", "temperature"):
        assert word not in text
    assert json.loads(text)["train"]["objective"] == {"custom": recorded_name(PixelL1)}


def test_own_objective_with_arguments_is_named_by_its_class(images):
    class Scaled(PixelL1):
        def __init__(self, scale, context):
            super().__init__(context)
            self.scale = scale

    assert train(images, quick(objective=partial(Scaled, 2), epochs=1)).method == "Scaled"


def test_result_of_an_own_objective_must_be_an_objective(images):
    with pytest.raises(NearfarError, match=r"returns a nearfar\.training\.Objective"):
        train(images, quick(objective=lambda context: 3))


def test_own_objective_rejects_options_of_others():
    with pytest.raises(NearfarError, match="temperature=0.1 belongs to objective contrastive"):
        configure({"objective": PixelL1, "temperature": 0.1})


def test_own_similarity_ranks_neighbors_of_a_loaded_model_when_passed_again(images, tmp_path):
    config = quick(similarity=distance)
    model = NRE(config=config).fit(images)
    model.save(tmp_path / "run")
    again = NRE.load(tmp_path / "run")
    with pytest.raises(NearfarError, match="your own .*distance: pass it again"):
        again.kneighbors(n_neighbors=2)
    again.set_params(config=configure({"similarity": distance}, base=again.config))
    for ours, theirs in zip(again.kneighbors(), model.kneighbors(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.kneighbors(n_neighbors=1)[1].shape == (300, 1)


def test_own_images_are_trained_on_and_told_from_others(tmp_path):
    class Stripes(Images):
        name, shape = "stripes", (1, 8, 8)

        def __init__(self, seed):
            self.angles = torch.rand(120, generator=torch.Generator().manual_seed(seed))

        def __len__(self):
            return len(self.angles)

        def batch(self, indices):
            columns = torch.arange(8) * self.angles[torch.as_tensor(indices), None]
            return columns.sin().square()[:, None, None].expand(-1, 1, 8, -1).contiguous()

    with pytest.raises(Interrupted):
        train(Stripes(0), QUICK, folder=tmp_path / "run", track=StopAt(3))
    assert runs.read_config(tmp_path / "run").data.source == "stripes"
    with pytest.raises(NearfarError, match="images other than 'stripes'"):
        train(Stripes(1), QUICK, folder=tmp_path / "run", resume=True)
    run = train(Stripes(0), QUICK, folder=tmp_path / "run", resume=True)
    assert run.embeddings.shape == (120, 12)
    model = NRE(config=changed(QUICK, epochs=1)).fit(Stripes(0))
    assert model.transform(Stripes(1)).shape == (120, 12)


def test_own_finder_gets_the_number_of_neighbors(images):
    counts = []

    def finder(count):
        counts.append(count)
        return ClusteredFinder(count, clusters=3)

    train(images, quick(finder=finder, neighbors=4))
    assert set(counts) == {4}
