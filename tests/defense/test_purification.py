"""Purification in batches, with rejection."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.data import ArrayImages
from nearfar.defense import NeighborPurifier, error_threshold, purify
from nearfar.errors import NearfarError


def bank_of(run):
    return torch.from_numpy(run.embeddings)


def test_purify_yields_purified_images_errors_and_rejections(purifier, clean):
    pixels, _ = clean
    threshold = error_threshold(purifier, ArrayImages(pixels), 0.1)
    batches = list(purify(purifier, ArrayImages(pixels), threshold=threshold))
    assert len(batches) > 1
    rows, images, errors, rejected = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert rows.tolist() == list(range(len(pixels)))
    torch.testing.assert_close(images, purifier.purify(pixels))
    torch.testing.assert_close(errors, purifier.reconstruction_error(pixels))
    assert torch.equal(rejected, errors > threshold)
    assert int(rejected.sum()) == int(0.1 * len(pixels))


def test_purify_takes_arrays_and_rejects_other_shapes(purifier, clean):
    pixels = clean[0][:5]
    (batch,) = purify(purifier, np.asarray(pixels))
    torch.testing.assert_close(batch.images, purifier.purify(pixels))
    with pytest.raises(NearfarError, match=r"shape \(3, 8, 8\): expected \(1, 8, 8\)"):
        purify(purifier, ArrayImages(pixels.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("votes", [0, 1.5, 1000])
def test_neighbor_purifier_raises_for_impossible_votes(trained, votes):
    with pytest.raises(NearfarError, match=f"votes={votes} with a bank of 1000"):
        NeighborPurifier(trained.network, (1, 8, 8), bank_of(trained), votes=votes)
