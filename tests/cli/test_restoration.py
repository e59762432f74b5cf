"""The commands of pretexts: train, denoise and inpaint."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nearfar.data import open_images
from nearfar.models.split_brain import SplitEncoder
from nearfar.runs import read_run
from program import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """Color images in two folders."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for row in range(40):
        path = root / "ab"[row % 2] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([digits[row], digits[row + 1], digits[row]], -1)).save(path)
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory, folder):
    """A run of each pretext that has a command, and a plain one."""
    root = tmp_path_factory.mktemp("runs")
    choices = "--epochs 1 --clusters 4 --batch-size 8 --device cpu --pretrain-epochs".split()
    for name, pretext in {
        "plain": "1 --pretext plain",
        "denoising": "60 --pretrain-lr 3e-3 --pretext denoising --noise gaussian --noise-level 0.4",
        "inpainting": "1 --pretext inpainting --holes random",
        "split-brain": "1 --pretext split-brain",
    }.items():
        assert run("train", folder, "--out", root / name, *choices, *pretext.split()) == 0
    return root


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_train_takes_every_pretext(runs):
    for name in ("plain", "denoising", "inpainting", "split-brain"):
        trained = read_run(runs / name)
        assert trained.config.train.pretext.kind == name
        assert isinstance(trained.network.encoder, SplitEncoder) == (name == "split-brain")


def test_denoise(runs, folder, tmp_path, capsys):
    assert run("denoise", runs / "denoising", folder, "--out", tmp_path / "clean") == 0
    assert "PSNR" not in capsys.readouterr().out
    assert len(list((tmp_path / "clean").glob("?/*.png.png"))) == 40
    assert run("reconstruct", runs / "denoising", folder, "--out", tmp_path / "same") == 0
    clean, same = (pixels(tmp_path / out / "b/07.png.png") for out in ("clean", "same"))
    np.testing.assert_array_equal(clean, same)
    assert pixels(tmp_path / "clean" / "comparison.png").ndim == 3


def test_denoise_shows_what_it_can(runs, folder, tmp_path, capsys):
    assert run("denoise", runs / "denoising", folder, "--out", tmp_path / "c", "--add-noise") == 0
    words = capsys.readouterr().out.split("PSNR ")[1].split()
    noisy, clean = float(words[0]), float(words[4])
    assert 5 < noisy < 12, "noise of 0.4, part of it cut off, is about 10 dB"
    assert clean > noisy + 1
    again = [runs / "denoising", folder, "--add-noise", "--overwrite", "--out", tmp_path / "c"]
    first = (tmp_path / "c" / "a" / "00.png.png").read_bytes()
    assert run("denoise", *again) == 0
    assert (tmp_path / "c" / "a" / "00.png.png").read_bytes() == first
    assert run("denoise", *again, "--seed", "1") == 0
    assert (tmp_path / "c" / "a" / "00.png.png").read_bytes() != first


def test_inpaint_with_the_holes_of_training(runs, folder, tmp_path):
    assert run("inpaint", runs / "inpainting", folder, "--out", tmp_path / "filled") == 0
    changed = [
        (pixels(path) != pixels(folder / path.relative_to(tmp_path / "filled").with_suffix("")))
        for path in (tmp_path / "filled").glob("?/*.png.png")
    ]
    assert len(changed) == 40
    share = np.mean([one.any(-1).mean() for one in changed])
    assert 0.1 < share <= 0.25
    assert pixels(tmp_path / "filled" / "comparison.png").std() > 0


@pytest.mark.parametrize("many", [False, True])
def test_inpaint_with_masks_leaves_known_pixels_alone(many, runs, folder, tmp_path):
    masks = tmp_path / "masks"
    for row in range(40):
        missing = np.zeros((8, 8), np.uint8)
        missing[row % 6 : row % 6 + 3 if many else 3, 2:5] = 255
        path = masks / "ab"[row % 2] / f"{row:02}.bmp" if many else tmp_path / "mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if many or row == 0:
            Image.fromarray(missing).save(path)
    out = tmp_path / "out"
    given = masks if many else tmp_path / "mask.png"
    assert run("inpaint", runs / "inpainting", folder, "--masks", given, "--out", out) == 0
    for row in range(40):
        name = f"{'ab'[row % 2]}/{row:02}.png"
        changed = (pixels(out / f"{name}.png") != pixels(folder / name)).any(-1)
        top = row % 6 if many else 0
        inside = np.zeros((8, 8), bool)
        inside[top : top + 3, 2:5] = True
        assert not changed[~inside].any()
        assert changed[inside].any()


def test_a_scratch_as_thin_as_a_pixel_is_filled(runs, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)).save(photo)
    scratch = np.zeros((400, 600), np.uint8)
    scratch[:, 322] = 255
    Image.fromarray(scratch).save(tmp_path / "mask.png")
    given = ("--masks", tmp_path / "mask.png", "--out", tmp_path / "out")
    assert run("inpaint", runs / "inpainting", photo, *given) == 0
    filled, shrunk = pixels(tmp_path / "out" / "photo.png.png"), open_images(photo, size=8)[0]
    changed = (filled != shrunk.permute(1, 2, 0).numpy()).any(-1)
    assert changed[:, 3:5].all()
    assert not changed[:, [0, 1, 2, 5, 6, 7]].any()


@pytest.mark.parametrize("trouble", ["unreadable", "twice", "black"])
def test_masks_are_all_used_or_refused(trouble, runs, folder, tmp_path, capsys):
    masks = tmp_path / "masks"
    for path in folder.glob("?/*.png"):
        mask = masks / path.relative_to(folder)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 255).save(mask)
    if trouble == "unreadable":
        for mask in list(masks.glob("?/*.png"))[1:]:
            mask.write_text("not an image")
    elif trouble == "twice":
        Image.new("L", (8, 8), 255).save(masks / "a" / "00.bmp")
    else:
        Image.new("L", (8, 8), 0).save(masks / "a" / "00.png")
    out = tmp_path / "out"
    assert run("inpaint", runs / "inpainting", folder, "--masks", masks, "--out", out) == 2
    said = {
        "unreadable": "not an image",
        "twice": "both 'a/00.bmp' and 'a/00.png'",
        "black": "mask 'a/00.png'",
    }
    assert said[trouble] in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_with_one_mask_is_not_for_all(runs, folder, tmp_path, capsys):
    (tmp_path / "masks" / "a").mkdir(parents=True)
    Image.new("L", (8, 8), 255).save(tmp_path / "masks" / "a" / "00.png")
    given = ("--masks", tmp_path / "masks", "--out", tmp_path / "out")
    assert run("inpaint", runs / "inpainting", folder, *given) == 2
    assert "no mask for 'a/02.png'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("inpaint {runs}/plain {folder} --out {out}", "pretext='plain'"),
        ("inpaint {runs}/inpainting {folder} --out {folder}", "exists already"),
        ("inpaint {runs}/inpainting {folder} --out {out} --masks {out}", "out"),
        (
            "inpaint {runs}/inpainting {folder} --out {out} --masks {folder}/a",
            "no mask for 'a/00",
        ),
        ("inpaint {out} {folder} --out {out}", "does not exist"),
        ("denoise {runs}/plain {out} --out {out}", "no file or folder"),
        ("denoise {runs}/plain {folder} --out {folder}", "exists already"),
        ("denoise {runs}/plain {folder} --out {out} --add-noise", "pretext='plain'"),
        ("denoise {runs}/inpainting {folder} --out {out} --add-noise", "pretext='inpainting'"),
        ("train {folder} --out {out} --holes random", "holes=random belongs to pretext inpainting"),
        ("train {folder} --out {out} --pretext jigsaw", "jigsaw"),
        ("train {folder} --out {out} --pretext denoising --noise-level 1.5", "noise_level=1.5"),
        ("train {folder} --out {out} --pretext split-brain --embedding-size 1", "embedding_size=1"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, culprit, runs, folder, tmp_path, capsys):
    places = {"runs": runs, "folder": folder, "out": tmp_path / "out"}
    assert run(*(part.format(**places) for part in arguments.split(" "))) == 2
    said = capsys.readouterr().err.splitlines()
    assert culprit in said[-1]
    assert sum(line.startswith("nearfar: ") for line in said) == 1
    assert not places["out"].exists(), "nothing half-written"
