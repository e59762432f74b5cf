"""Corruptions: changed pixels are marked, all others stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar.config import Denoising, Inpainting, Plain, SplitBrain
from nearfar.models import Output
from nearfar.pretext import (
    AdversarialNoise,
    CentralHole,
    GaussianNoise,
    Identity,
    MaskingNoise,
    RandomHoles,
    fill_missing,
    make_corruption,
    pixel_errors,
)

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
def test_corruptions_change_only_marked_pixels(corruption, channels, height, width, seed):
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
    (hole,) = CentralHole()(torch.rand(1, 1, side, side)).mask[:, 0]
    assert torch.equal(hole, hole.flip(0))
    assert torch.equal(hole, hole.T)
    assert not hole[0].any()
    assert 0.15 < hole.float().mean() < 0.37


def test_a_central_hole_of_sides_that_four_divides_is_a_quarter():
    for side in (8, 28, 64):
        assert CentralHole()(torch.rand(1, 1, side, side)).mask.float().mean() == 0.25


@given(side=st.integers(8, 64))
@settings(max_examples=20, deadline=None)
def test_random_holes_take_at_most_about_a_quarter_and_lie_anywhere(side):
    torch.manual_seed(side)
    holes = RandomHoles()(torch.rand(400, 1, side, side)).mask
    block = round(side / 4) ** 2
    area = holes.sum((1, 2, 3))
    assert area.min() >= block
    assert area.max() <= 4 * block
    assert 0.1 < holes.float().mean() < 0.3
    assert holes.any(0).float().mean() > 0.98, "no place is always safe"


def test_noise_has_its_level():
    torch.manual_seed(0)
    images = torch.full((50, 1, 40, 40), 0.5)
    masked = MaskingNoise(0.25)(images)
    assert (masked.images == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert (GaussianNoise(0.1)(images).images - images).std() == pytest.approx(0.1, abs=0.002)
    assert torch.equal(MaskingNoise(0)(images).images, images)


def test_fill_missing_uses_the_mean_of_known_pixels():
    image = torch.tensor([[[[1.0, 3.0], [5.0, 100.0]]]])
    missing = torch.tensor([[[[False, False], [False, True]]]])
    assert fill_missing(image, missing).flatten().tolist() == [1, 3, 5, 3]
    assert fill_missing(image, torch.ones_like(missing)).flatten().tolist() == [0, 0, 0, 0]


def test_pixel_errors_weight_hole_and_surroundings_equally():
    images = torch.rand(3, 3, 12, 12)
    corrupted = CentralHole()(images)
    reconstruction = images + torch.where(corrupted.mask, 0.5, 0.1)
    weighted, plain = pixel_errors(reconstruction, images, corrupted)
    assert weighted == pytest.approx((0.5**2 + 0.1**2) / 2)
    assert plain == pytest.approx(0.25 * 0.5**2 + 0.75 * 0.1**2)


def test_make_corruption_follows_the_pretext() -> None:
    def network(images: torch.Tensor) -> Output:
        return Output(images.flatten(1), images)

    for pretext, expected in (
        (Plain(), Identity()),
        (SplitBrain(), Identity()),
        (Denoising(), MaskingNoise(0.25)),
        (Denoising(noise="gaussian", noise_level=0.1), GaussianNoise(0.1)),
        (Denoising(noise="adversarial", noise_level=0.1), AdversarialNoise(0.1, network)),
        (Inpainting(), CentralHole()),
        (Inpainting(holes="random"), RandomHoles()),
    ):
        assert make_corruption(pretext, network) == expected


def test_pixel_errors_of_clean_images_are_equal() -> None:
    images, reconstruction = torch.rand(2, 3, 1, 8, 8).unbind()
    weighted, plain = pixel_errors(reconstruction, images, Identity()(images))
    assert weighted == plain == (reconstruction - images).square().mean()
