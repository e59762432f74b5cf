"""Augmentation of images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from nearfar.augmentation import (
    NoAugmentation,
    PhotoAugmentation,
    ShapeAugmentation,
    _smooth,
    make_augmentation,
)
from nearfar.data import ArrayImages


@pytest.mark.parametrize("views", [NoAugmentation(), ShapeAugmentation(), PhotoAugmentation()])
@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 64, 48), (1, 3, 9, 8)])
def test_views_are_images_of_the_same_shape(views, shape) -> None:
    images = torch.rand(shape)
    seen = views(images)
    assert seen.shape == images.shape
    assert seen.dtype == images.dtype
    assert seen.min() >= -1e-6
    assert seen.max() <= 1 + 1e-6


@pytest.mark.parametrize("views", [ShapeAugmentation(), PhotoAugmentation()])
def test_each_image_is_seen_in_its_own_way(views) -> None:
    seen = views(torch.rand(1, 1, 28, 28).expand(4, 1, 28, 28))
    assert len(torch.unique(seen.flatten(1), dim=0)) == 4


@pytest.mark.parametrize("views", [ShapeAugmentation(), PhotoAugmentation()])
def test_seed_decides(views) -> None:
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(1)
    first = views(images)
    torch.manual_seed(1)
    assert torch.equal(views(images), first)
    assert not torch.equal(views(images), first)


def test_views_without_any_change_are_the_images() -> None:
    images = torch.rand(4, 3, 16, 20)
    still = ShapeAugmentation(degrees=0, scale=0, shear=0, translate=0, elastic=0)
    torch.testing.assert_close(still(images), images, atol=1e-5, rtol=0)
    whole = PhotoAugmentation(min_area=1, aspect=1, color_jitter=0, grayscale_prob=0)(images)
    mirrored = images.flip(-1)
    for seen, image, other in zip(whole, images, mirrored, strict=True):
        assert min((seen - image).abs().max(), (seen - other).abs().max()) < 1e-5


def test_shift_moves_by_at_most_its_share() -> None:
    images = torch.zeros(64, 1, 20, 20)
    images[:, :, 10, 10] = 1
    seen = ShapeAugmentation(degrees=0, scale=0, shear=0, translate=0.2, elastic=0)(images)
    rows = (seen * torch.arange(20).view(-1, 1)).sum((1, 2, 3)) / seen.sum((1, 2, 3))
    assert (rows - 10).abs().max() <= 4.01
    assert rows.std() > 1


@pytest.mark.parametrize(("height", "width"), [(28, 28), (9, 40), (5, 3)])
def test_bends_are_interpolated_as_torch_does(height, width) -> None:
    coarse = torch.randn(4, 2, 5, 5)
    theirs = interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    torch.testing.assert_close(_smooth(coarse, height, width), theirs.permute(0, 2, 3, 1))


@pytest.mark.parametrize("background", [0.0, 0.7, 1.0])
def test_outside_of_a_shape_is_background(background) -> None:
    images = torch.full((64, 1, 20, 20), background)
    images[..., 8:12, 8:12] = 0.4
    images[..., 0, :6] = 0.4  # at the border too
    seen = ShapeAugmentation(elastic=0)(images)
    low, high = sorted([0.4, background])
    assert seen.min() >= low - 1e-6
    assert seen.max() <= high + 1e-6
    rim = torch.cat([seen[..., [0, -1], :].flatten(), seen[..., [0, -1]].flatten()])
    assert (rim - background).abs().median() < 1e-6


def test_black_on_white_is_seen_as_white_on_black_is() -> None:
    images = torch.zeros(16, 1, 28, 28)
    images[..., 4:-4, 4:-4] = torch.rand(16, 1, 20, 20)
    images[..., 0, 10:14] = 1
    torch.manual_seed(0)
    seen = ShapeAugmentation()(images)
    torch.manual_seed(0)
    torch.testing.assert_close(ShapeAugmentation()(1 - images), 1 - seen)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 1), st.floats(1, 2), st.integers(0, 1000))
def test_a_photograph_is_never_seen_beyond_its_borders(smallest, aspect, seed) -> None:
    torch.manual_seed(seed)
    across = torch.linspace(0.2, 0.8, 32).expand(4, 1, 32, 32)
    seen = PhotoAugmentation(min_area=smallest, aspect=aspect, color_jitter=0, grayscale_prob=0)(
        across
    )
    steps = seen.diff(dim=-1)
    # Beyond a border the ramp would turn back.
    assert ((steps >= -1e-5).all((1, 2, 3)) | (steps <= 1e-5).all((1, 2, 3))).all()


def test_gray_views_have_no_color() -> None:
    seen = PhotoAugmentation(grayscale_prob=1)(torch.rand(8, 3, 16, 16))
    torch.testing.assert_close(seen, seen.mean(1, keepdim=True).expand_as(seen))


def test_automatic_views_go_by_the_kind_of_images(digits) -> None:
    noise = ArrayImages(torch.rand(9, 1, 28, 28))
    assert make_augmentation("auto", ArrayImages(digits[:, None])) == ShapeAugmentation()
    assert make_augmentation("auto", noise) == PhotoAugmentation(), "gray surfaces are no shapes"
    assert make_augmentation("auto", ArrayImages(torch.rand(9, 3, 28, 28))) == PhotoAugmentation()
    assert make_augmentation("none", noise) == NoAugmentation()
    assert make_augmentation("auto", ArrayImages(torch.rand(9, 1, 1, 30))) == NoAugmentation()


def test_make_augmentation_returns_a_callable_as_it_is() -> None:
    def invert(images: torch.Tensor) -> torch.Tensor:
        return 1 - images

    assert make_augmentation(invert, ArrayImages(torch.rand(9, 1, 28, 28))) is invert
