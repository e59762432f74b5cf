"""Restoration as a library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar import NRE, recipe
from nearfar.data import ArrayImages, open_images
from nearfar.errors import NearfarError
from nearfar.report import write_restored
from nearfar.restoration import MeanPSNR, denoise, inpaint, open_masks, psnr, reconstruct
from nearfar.runs import read_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digits):
    """A run of each pretext."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for pretext in ("plain", "denoising", "inpainting"):
        options = {"epochs": 1, "clusters": 4, "batch_size": 64, "device": "cpu"}
        model = NRE(config=recipe("paper", **options, pretext=pretext))
        model.fit(digits[:200]).save(folder / pretext)
        found[pretext] = read_run(folder / pretext)
    return found


@pytest.fixture(scope="module")
def images(digits):
    return ArrayImages(digits[:600, None])


def test_reconstruct_yields_batches_of_the_networks_output(runs, images):
    batches = list(reconstruct(runs["plain"], images, device="cpu"))
    assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(600))
    assert max(len(batch.rows) for batch in batches) < 600, "memory is bounded"
    with torch.no_grad():
        pixels = images.batch(range(600)) / 255
        expected = runs["plain"].network(pixels).reconstruction
    torch.testing.assert_close(torch.cat([batch.images for batch in batches]), expected)


def test_denoise_adds_noise_and_measures_psnr(runs, images):
    torch.manual_seed(0)
    quality = MeanPSNR()
    batches = list(quality.measure(denoise(runs["denoising"], images, add_noise=True)))
    assert [list(batch.stages) for batch in batches] == [["original", "noisy", "denoised"]] * 3
    clean, noisy = (
        torch.cat([batch.stages[stage] for batch in batches]) for stage in ("original", "noisy")
    )
    assert quality.result().keys() == {"noisy", "denoised"}
    assert quality.result()["noisy"] == pytest.approx(float(psnr(noisy, clean).mean()))


def test_inpaint_changes_only_missing_pixels(runs, images, digits):
    masks = np.zeros((600, 8, 8), bool)
    masks[::2, 2:5, 3:6] = True
    masks[1::2, 6:] = True
    for batch in inpaint(runs["inpainting"], digits[:600], masks=masks, device="cpu"):
        missing = torch.from_numpy(masks[batch.rows])[:, None]
        original, filled = batch.stages["original"], batch.images
        assert torch.equal(original[~missing], filled[~missing])
        assert (original[missing] != filled[missing]).any()
    with pytest.raises(NearfarError, match=r"\(5, 8, 8\): expected \(600, 8, 8\)"):
        inpaint(runs["inpainting"], images, masks=masks[:5])
    with pytest.raises(NearfarError, match="bool"):
        inpaint(runs["inpainting"], images, masks=masks[0])


def test_errors_are_raised_before_the_first_batch(runs, images):
    with pytest.raises(NearfarError, match="pretext='plain', without noise"):
        denoise(runs["plain"], images, add_noise=True)
    with pytest.raises(NearfarError, match="pretext='plain', which fills no holes"):
        inpaint(runs["plain"], images)
    with pytest.raises(NearfarError, match=r"shape \(3, 8, 8\): expected \(1, 8, 8\)"):
        reconstruct(runs["plain"], ArrayImages(np.zeros((2, 3, 8, 8), np.uint8)))


def test_open_masks_pairs_by_name(tmp_path, digits):
    for folder, extension in (("photos", "png"), ("masks", "bmp")):
        (tmp_path / folder).mkdir()
        for row in range(3):
            mask = np.zeros((8, 8), np.uint8)
            mask[row] = 255
            pixels = mask if folder == "masks" else digits[row]
            Image.fromarray(pixels).save(tmp_path / folder / f"{row}.{extension}")
    images = open_images(tmp_path / "photos")
    masks = open_masks(tmp_path / "masks", images)
    assert [int(masks[row][0].any(1).int().argmax()) for row in range(3)] == [0, 1, 2]
    (tmp_path / "masks" / "1.bmp").unlink()
    with pytest.raises(NearfarError, match=r"no mask for '1\.png'"):
        open_masks(tmp_path / "masks", images)


def test_write_restored_writes_a_file_per_image_and_a_sheet(runs, images, tmp_path):
    write_restored(tmp_path / "a", images.names(), denoise(runs["plain"], images))
    assert len(list((tmp_path / "a").glob("*.png"))) == 601
    write_restored(tmp_path / "b", images.names(), denoise(runs["plain"], images), sheet=False)
    assert not (tmp_path / "b" / "comparison.png").exists()
