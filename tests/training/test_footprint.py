"""Memory and disk of a training, estimated before it starts."""

from __future__ import annotations

import pytest

from nearfar.data import ArrayImages
from nearfar.runs import make_network
from nearfar.training import Context, Footprint, Objective, make_objective, train
from nearfar.training.distributed import launch
from nearfar.training.footprint import checkpoint_footprint, disk_footprint, memory_footprint
from trainings import quick

#: All options that are the same in these tests.
COMMON = {"batch_size": 32, "clusters": 7, "embedding_size": 16}


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:, None])


def footprints(images, **options):
    """Return disk and memory of a training, and its checkpoint."""
    config = quick(**COMMON | options)
    context = Context(images, config, launch(config))
    parts = context, make_network(config, images.shape), make_objective(context)
    return disk_footprint(*parts), memory_footprint(*parts), checkpoint_footprint(*parts)


def test_neighbors_of_images_need_no_embeddings_of_reconstructions(images):
    ends = "reconstruction", "image"
    disks = [footprints(images, relative_to=end, bank="disk")[0] for end in ends]
    assert ["embeddings of reconstructions" in disk for disk in disks] == [True, False]
    most, least = (footprints(images, relative_to=end)[1] for end in ends)
    assert most - least == 4 * 1797 * 16
    alone = footprints(images, loss_weights=(1.0, 0.0, 0.0), bank="disk")[0]
    assert "bank" in alone
    assert "embeddings of reconstructions" not in alone


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"bank": "disk"}, 16),  # keys
        ({}, 16 + 16 + 16),  # bank, keys, embeddings of reconstructions
        ({"search_every": "step"}, 16 + 16),
        ({"epochs": 0}, 16),  # embeddings
        ({"objective": "contrastive", "refresh_neighbors_every": 2}, 64 + 64 + 64),
        (
            {"objective": "contrastive", "refresh_neighbors_every": 2, "embedding_size": 200},
            200,
        ),
        ({"objective": "contrastive", "refresh_neighbors_every": 0}, 16),
    ],
)
def test_memory_is_that_of_the_embeddings_that_are_held_at_once(images, options, numbers):
    assert footprints(images, **options)[1] == 4 * len(images) * numbers


def test_checkpoints_hold_what_was_found(images):
    least = footprints(images, neighbors=3, epochs=0)[0]["checkpoints"]
    with_neighbors, _, checkpoint = footprints(images, neighbors=3)
    network = make_network(quick(**COMMON), images.shape)
    reference = sum(4 * each.numel() for each in network.encoder.parameters())
    found = len(images) * (2 * 8 * 3 + 4 * 16)
    assert with_neighbors["checkpoints"] - least == 2 * (found + reference)
    assert with_neighbors["checkpoints"] == 2 * checkpoint


def test_own_objective_states_its_needs(images):
    class Hungry(Objective):
        def footprint(self, network):
            return Footprint(memory=10**9, disk={"a cache": 10**8}, checkpoint=10**7)

        def __call__(self, model, rows, images, epoch):
            raise AssertionError("not called for an estimate")

    disk, memory, checkpoint = footprints(images, objective=Hungry, clusters=None)
    assert (disk["a cache"], memory) == (10**8, 10**9)
    assert checkpoint > 10**7


def test_no_more_disk_is_used_than_estimated(tmp_path, digits):
    images = ArrayImages(digits[:300, None])
    config = quick(bank="disk", refresh_reference_every=1)
    most = 0

    def track(items, description="", total=None):
        nonlocal most
        for item in items:
            files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
            most = max(most, sum(path.stat().st_size for path in files))
            yield item

    run = train(images, config, folder=tmp_path / "run", track=track)
    context = Context(images, config, launch(config))
    said = sum(disk_footprint(context, run.network, make_objective(context)).values())
    assert most < said + 20_000, "headers and the log"
    assert most > said / 3, "while no checkpoint is being replaced"
