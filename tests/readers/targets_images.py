"""Damaged folders, image files, array files, arrays, configurations and run folders."""

from __future__ import annotations

import functools
import json
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import ExifTags, Image, ImageCms

from nearfar import NRE
from nearfar.cli import encode as commands
from nearfar.cli.options import DataOptions, EncoderOptions
from nearfar.config import recipe
from nearfar.data import images_from_array
from nearfar.encoders import Encoder, open_encoder
from nearfar.evaluation import read_scores
from nearfar.progress import Bars
from nearfar.runs import read_run
from readers.cells_dicom import RAMP, write_dicom
from readers.cells_dicom import color as write_color_dicom
from readers.fuzz import outcome, target
from readers.stores import pictures, store_manifest, store_parquet, write_tar
from readers.support import call, command, noise
from readers.targets_anomaly import some_frames, write_video

TRAIN = (
    *("--pretrain-epochs", 1, "--epochs", 1, "--batch-size", 4, "--embedding-size", 4),
    *("--clusters", 2, "--device", "cpu"),
)


def train_run(place: Path) -> None:
    """Train a small run on color images of 12×12 pixels, which are written beside it."""
    np.save(place / "pixels.npy", noise(12))
    said = command("train", place / "pixels.npy", "--out", place / "run", *TRAIN)
    assert said.code == 0, said


class OpenEncoder(EncoderOptions):
    """Encoder of a run that is read once."""

    opened = staticmethod(functools.cache(open_encoder))

    def open(self, encoder: str, track: Bars) -> Encoder:
        return self.opened(encoder)


def encode(fixed: Path, source: Path, output: Path, **options: object) -> str:
    """Encode a source by the run."""
    out, run = output.with_suffix(".npz"), str(fixed / "run")
    said = call(
        commands.encode,
        run,
        str(source),
        out=out,
        images=DataOptions(**options),
        model=OpenEncoder(),
        device="cpu",
    )
    assert said.code == 2 or np.isfinite(np.load(out)["embeddings"]).all()
    return outcome(said)


def write_images(folder: Path) -> None:
    """Write images of many formats and modes."""
    import imagecodecs
    import pillow_heif
    import tifffile

    pillow_heif.register_heif_opener()
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    images = [Image.fromarray(pixels) for pixels in noise(17)]
    for number, extension in enumerate(("png", "jpg", "gif", "tif", "webp", "bmp", "ppm", "jp2")):
        images[number].save(folder / f"{number}.{extension}")
    images[8].save(folder / "turned.jpg", exif=block)
    images[9].save(folder / "turned.png", exif=block, icc_profile=profile)
    images[10].convert("CMYK").save(folder / "cmyk.jpg", icc_profile=profile)
    images[11].convert("RGBA").save(folder / "alpha.png")
    images[12].convert("L").save(folder / "gray.tif", compression="tiff_lzw", exif=block)
    Image.fromarray(noise(1)[0, ..., 0].astype(np.uint16) * 257).save(folder / "16.png")
    images[13].quantize().save(folder / "palette.png", transparency=0)
    images[14].copy().save(folder / "two.mpo", save_all=True, append_images=[images[15].copy()])
    bands = np.random.default_rng(0).integers(0, 256, (12, 12, 5), dtype=np.uint8)
    tifffile.imwrite(folder / "bands.tif", bands, photometric="minisblack", planarconfig="contig")
    deep = bands[..., :3].astype(np.uint16) * 257
    tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb", compression="zlib")
    tifffile.imwrite(folder / "float.tif", bands[..., 0].astype(np.float64))
    (folder / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    images[0].save(folder / "photo.heic")
    images[16].save(folder / "pages.tif", save_all=True, append_images=[images[11]])


def prepare_folder(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    for name in ("cats", "caf\u00e9 au lait"):
        (inputs / name).mkdir()
        write_images(inputs / name)
    (inputs / "notes.txt").write_text("text")


@target("folder", prepare_folder)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    return encode(fixed, inputs, output)


def prepare_image(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    write_images(inputs)


@target("image", prepare_image, one=True)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    file = next((path for path in sorted(inputs.iterdir())), inputs / "absent")
    return encode(fixed, file, output, bands=(3, 2, 1), window=(0, 255))


def only_file(inputs: Path, extension: str) -> Path:
    """Return the file with an extension, by which readers are chosen; it may be absent."""
    return next(iter(sorted(inputs.glob(f"*{extension}"))), inputs / f"absent{extension}")


def prepare_dicom(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    write_dicom(inputs / "plain.dcm", RAMP)
    write_dicom(inputs / "window.dcm", RAMP, WindowCenter=[100, 50], WindowWidth=[200, 20])
    curve = {"VOILUTFunction": "SIGMOID", "WindowCenter": 128, "WindowWidth": 64}
    write_dicom(inputs / "curve.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-9, **curve)
    write_color_dicom(inputs / "color.dcm", noise(1, 16)[0])


@target("dicom", prepare_dicom)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    return encode(fixed, inputs, output)


def prepare_frames(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    write_video(inputs / "a.mkv", some_frames(), "ffv1")
    write_video(inputs / "b.mp4", some_frames(), "libx264")
    write_video(inputs / "c.avi", some_frames(), "mpeg4")


@target("frames", prepare_frames)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    return encode(fixed, inputs, output, frame_rate=5)


def prepare_manifest(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    store_manifest(inputs, pictures(), ["cat", "dog", "cat", "dog"])


@target("manifest", prepare_manifest)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    return encode(fixed, only_file(inputs, ".csv"), output)


def prepare_tar(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    files = [*pictures().items(), ("0.json", b'{"label": 3}'), ("1.cls", b"2"), ("2.txt", b"cat")]
    write_tar(inputs / "a.tar", [*files, ("x" * 150 + ".png", pictures()["0.png"])])


@target("tar", prepare_tar)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    return encode(fixed, only_file(inputs, ".tar"), output)


def prepare_parquet(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    store_parquet(inputs, pictures(8), [0, 1] * 4, classes=["cat", "dog"])


@target("parquet", prepare_parquet)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    return encode(fixed, only_file(inputs, ".parquet"), output)


def prepare_array(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    np.save(inputs / "color.npy", noise(8))
    np.save(inputs / "float.npy", (noise(8) / 255).astype(np.float32))
    np.save(inputs / "gray.npy", np.asfortranarray(noise(8)[..., 0]))
    labels = ["cat", "dog"] * 4
    np.savez(inputs / "labeled.npz", images=noise(8), labels=labels, extra=[1])
    np.savez_compressed(inputs / "named.npz", x=noise(8), y=np.arange(8) % 2, classes=["a", "b"])


@target("array", prepare_array, one=True)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    file = next((path for path in sorted(inputs.iterdir())), inputs / "absent")
    return encode(fixed, file, output)


load = functools.cache(NRE.load)


def prepare_python(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    (inputs / "seed").write_text("0")


@target("python", prepare_python, rename=False)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    rng = random.Random((inputs / "seed").read_bytes())  # noqa: S311
    model, array = load(fixed / "run"), some_array(rng)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if rng.random() < 0.5:
                images = images_from_array(array, some_labels(rng))
                embeddings = images.batch([0])
            else:
                embeddings = torch.as_tensor(np.asarray(model.transform(array)))
        except (TypeError, ValueError):  # scikit-learn's own checks raise these
            return "rejected"
    assert embeddings.isfinite().all()
    return "skipped" if caught else "success"


def some_array(rng: random.Random) -> object:
    """Return an array, a list or a tensor, of any shape, type and order."""
    shapes = (
        *(
            (4, 12, 12, 3),
            (4, 3, 12, 12),
            (4, 12, 12),
            (4, 432),
            (12, 12, 3),
            (3, 12, 12),
            (12, 12),
        ),
        *((0, 12, 12, 3), (4, 0, 12, 3), (4, 12, 12, 4), (4, 7, 7, 3), (), (1,), (2, 2, 2, 2, 2)),
    )
    shape = rng.choice(shapes[:1] * 3 + shapes[:4] if rng.random() < 0.8 else shapes)
    usual, others = ("u1", "f4", "f8"), ("f2", ">f4", "i8", ">u2", "?", "c8", "O", "U2", "M8[s]")
    kind = rng.choice(usual if rng.random() < 0.8 else others)
    values = np.random.default_rng(rng.randrange(2**32)).random(shape)
    if kind in ("u1", "i8", ">u2"):
        values = values * rng.choice((1, 255, 255, 255, 255, 255, 300, 70_000))
    if rng.random() < 0.1 and values.size:
        values.flat[rng.randrange(values.size)] = rng.choice((np.nan, np.inf, -np.inf, -5.0, 1e30))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = values.astype("i8").astype(kind) if kind[0] in "Mm" else values.astype(kind)
    form = rng.randrange(8)
    if form == 0:
        return np.asfortranarray(array)
    if form == 1 and array.ndim:
        return array[::-1]
    if form == 2:
        return array.tolist()
    if form == 3 and kind in ("u1", "f4", "f8", "i8", "?"):
        return torch.from_numpy(np.ascontiguousarray(array))
    if form == 4 and kind in ("f4", "f8"):
        return torch.from_numpy(np.ascontiguousarray(array)).requires_grad_()
    if form == 5 and array.size:
        return np.ma.masked_array(array, rng.random() < 0.5)
    if form == 6 and array.ndim > 1 and array.size:
        return [*array[:-1], array[-1][..., :-1]]
    return array


def some_labels(rng: random.Random) -> object:
    """Return labels of four images, or something else."""
    return rng.choice(
        (None, None, [0, 1, 0, 1], list("abca"), [1, 2], [1.5] * 4, [[0]] * 4, "abcd", [None] * 4)
    )


def prepare_configuration(inputs: Path, fixed: Path) -> None:
    np.save(fixed / "pixels.npy", noise(8))
    flat = {
        **{"epochs": 0, "pretrain_epochs": 1, "embedding_size": 4, "batch_size": 4, "lr": 1e-3},
        **{"weights": [0.5, 0.2, 0.3], "clusters": 2, "seed": 0, "device": "cpu", "strict": True},
    }
    (inputs / "flat.yaml").write_text(yaml.safe_dump(flat))
    (inputs / "flat.json").write_text(json.dumps(flat))
    sections = recipe("nearfar", epochs=0, pretrain_epochs=1, batch_size=4, device="cpu").to_dict()
    (inputs / "sections.yaml").write_text(yaml.safe_dump(sections))
    (inputs / "sections.json").write_text(json.dumps(sections, indent=1))


@target("configuration", prepare_configuration, one=True)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    file = next((path for path in sorted(inputs.iterdir())), inputs / "absent")
    said = command(
        *("train", fixed / "pixels.npy", "--config", file, "--out", output, "--dry-run"),
        *("--epochs", 0, "--pretrain-epochs", 1),
    )
    return outcome(said)


def prepare_run(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    labeled = fixed / "labeled.npz"
    np.savez(labeled, images=noise(20), labels=np.arange(20) % 2)
    assert command("evaluate", fixed / "run", "--train", labeled).code == 0
    shutil.copytree(fixed / "run", inputs / "run")


@target("run", prepare_run)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    run = read_run(inputs / "run")
    assert np.isfinite(run.embeddings).all()
    read_scores(inputs / "run")
    out = output.with_suffix(".npz")
    pixels = fixed / "pixels.npy"
    said = call(commands.encode, str(inputs / "run"), str(pixels), out=out, device="cpu")
    return outcome(said)
