"""Cells of arrays in Python."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar import NRE, configure, train
from nearfar.data import ArrayImages, FolderImages, images_from_array, open_images
from nearfar.models import resolve_device
from readers.support import bright_corner, noise, pattern, rejection, warned
from readers.table import cell

QUICK = {"embedding_size": 4, "epochs": 0, "pretrain_epochs": 1, "batch_size": 8, "device": "cpu"}


def gray(count: int = 12) -> np.ndarray:
    return noise(count, 12)[..., 0]


@cache
def fitted() -> NRE:
    """A model of gray images of 12×12 pixels."""
    return NRE(**QUICK).fit(gray())


@cell("python", "orientation", "none: row 0 is the top; negative strides are obeyed")
def orientation(folder: Path) -> None:
    images = np.stack([pattern(), pattern()])[:, ::-1][:, ::-1]
    assert bright_corner(images_from_array(images)[0]) == ("top", "left")
    flipped = fitted().transform(gray()[:, ::-1])
    assert np.allclose(flipped, fitted().transform(gray()[:, ::-1].copy()))


@cell("python", "size", "rejected: another size than in fit, or several sizes")
def size(folder: Path) -> None:
    with pytest.raises(ValueError, match="features|height, width"):
        fitted().transform(noise(2, 16)[..., 0])
    with rejection("not an array of one shape"):
        NRE(**QUICK).fit([np.zeros((9, 9)), np.zeros((9, 10))])
    with rejection("not an array of one shape"):
        images_from_array([np.zeros((9, 9)), np.zeros((9, 10))])


@cell(
    "python",
    "range",
    "obeyed: any range in NRE, by that of fit; warned: another scale in transform",
)
def value_range(folder: Path) -> None:
    unit = NRE(**QUICK).fit(gray() / 255)
    with warned("up to 25", "a model of images on 0…1: expected the same scale"):
        unit.transform(gray().astype(np.float32))
    with warned("up to 65", "a model of images on 0…255: expected the same scale"):
        NRE(**QUICK).fit(gray()).transform(gray().astype(np.uint16) * 256)
    binary = gray() > 99
    with warned("uint8 images with values up to 1"):
        NRE(**QUICK).fit(binary.astype(float)).transform(binary.astype(np.uint8))
    wide = NRE(**QUICK).fit(gray().astype(np.float64) * 100)
    assert wide.embeddings_.shape == (12, 4)
    with rejection("outside the range of float32"):
        NRE(**QUICK).fit(gray().astype(np.float64) * 1e300)


@cell("python", "depth", "obeyed: integers, floats, bfloat16; complex, text, objects are rejected")
def depth(folder: Path) -> None:
    for kind in (torch.uint8, torch.float64, torch.bfloat16):
        images = torch.rand(12, 12, 12).mul(200).to(kind)
        assert NRE(**QUICK).fit(images).embeddings_.shape == (12, 4)
    for kind in ("c8", "U3", "M8[s]"):
        with pytest.raises((ValueError, TypeError)):
            NRE(**QUICK).fit(np.zeros((12, 12, 12), kind))
        with rejection("is an array of"):
            images_from_array(np.zeros((12, 12, 12), kind))
    with rejection("uint8 or floats"):
        ArrayImages(torch.zeros(2, 1, 8, 8, dtype=torch.int64))


@cell("python", "white point", "warned: if the brightest pixel is below 1/16 of white")
def white_point(folder: Path) -> None:
    with warned("brightest pixel is 1,"):
        NRE(**QUICK).fit(gray() // 128)
    with warned("brightest pixel"):
        images_from_array(gray() // 128)


@cell("python", "channels", "obeyed: 1 or 3, last; other numbers are rejected")
def channels(folder: Path) -> None:
    assert NRE(**QUICK).fit(noise(12)).run_.config.data.shape == (3, 12, 12)
    with rejection("1 or 3 channels"):
        NRE(**QUICK).fit(np.zeros((12, 12, 12, 4)))


@cell("python", "transparency", "rejected: a fourth channel; masked values too")
def transparency(folder: Path) -> None:
    with rejection("1 or 3 channels"):
        images_from_array(np.zeros((12, 12, 12, 4), np.uint8))
    masked = np.ma.masked_array(gray(), gray() > 99)
    for use in (NRE(**QUICK).fit, images_from_array):
        with rejection("masked values"):
            use(masked)


@cell("python", "profile", "rejected: PIL images, whose mode and profile an array would lose")
def profile(folder: Path) -> None:
    pictures = [Image.fromarray(pixels).convert("HSV") for pixels in noise(3)]
    for use in (NRE(**QUICK).fit, images_from_array):
        for given in (pictures, pictures[0]):
            with rejection("PIL images"):
                use(given)


@cell(
    "python",
    "count",
    "rejected: one picture [h, w, c]; as many neighbors as there are images at most",
)
def count(folder: Path) -> None:
    with rejection("looks like one picture"):
        NRE(**QUICK).fit(pattern())
    with rejection("looks like one picture"):
        images_from_array(pattern())
    model, new = fitted(), gray()[:2]
    for number in (3, np.int64(3), np.uint8(3)):
        assert model.kneighbors(new, number)[1].shape == (2, 3)
    assert model.kneighbors(new, None)[1].shape == (2, 5)
    rows = model.kneighbors(new, 12)[1]
    assert np.sort(rows).tolist() == [list(range(12))] * 2
    assert np.sort(model.kneighbors(new, 12, far=True)[1]).tolist() == [list(range(12))] * 2
    for number in ("3", True, 0, -1, 13, 3.0, [3]):
        with rejection("n_neighbors=", "from 1 to 12"):
            model.kneighbors(new, number)
    with rejection("from 1 to 11"):
        model.kneighbors(n_neighbors=12)
    assert model.kneighbors(n_neighbors=11)[1].shape == (12, 11)


@cell("python", "time", "obeyed: fits in several threads at once give the result of each seed")
def time(folder: Path) -> None:
    options = QUICK | {"epochs": 1, "clusters": 2, "loss_weights": (0.5, 0.2, 0.3)}
    alone = {seed: NRE(**options, seed=seed).fit(gray()).embeddings_ for seed in range(3)}
    together: dict[int, np.ndarray] = {}

    def fit(seed: int) -> None:
        together[seed] = NRE(**options, seed=seed).fit(gray()).embeddings_

    threads = [threading.Thread(target=fit, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, embeddings in alone.items():
        assert np.array_equal(embeddings, together[seed])


@cell("python", "rate", "none: images have no times")
def rate(folder: Path) -> None:
    assert not hasattr(images_from_array(gray()), "rate")


@cell("python", "order", "obeyed: memory in C or Fortran order, either byte order")
def order(folder: Path) -> None:
    expected = fitted().transform(gray())
    for array in (np.asfortranarray(gray()), gray()[::2][:6], gray().astype(">i4").astype("u1")):
        found = fitted().transform(array)
        rows = slice(None) if len(array) == 12 else slice(None, None, 2)
        assert np.allclose(found, expected[rows], atol=1e-5)
    big = images_from_array(gray().astype(">i4"))
    assert (big[3].numpy() == gray()[3]).all()


@cell("python", "pairing", "rejected: labels of another number, shape or type than the images")
def pairing(folder: Path) -> None:
    missing = np.array(["a", None] * 6, object)
    for labels in ([1, 2], np.zeros((12, 1), int), np.zeros(12), missing):
        with rejection("labels"):
            images_from_array(gray(), labels)
    named = images_from_array(gray(), np.array(["b", "a"] * 6, object))  # as pandas has them
    assert (named.labels.tolist(), named.classes) == ([1, 0] * 6, ["a", "b"])
    for rows in (np.ones(12, bool), [0.5]):
        with rejection("expected whole numbers"):
            named.batch(rows)
    loader = torch.utils.data.DataLoader(named, batch_size=5)
    assert [len(batch) for batch in loader] == [5, 5, 2]


@cell("python", "names", "obeyed: paths as text or Path; class names in one Unicode form")
def names(folder: Path) -> None:
    Image.fromarray(pattern()).save(folder / "a.png")
    for place in (folder, str(folder)):
        assert len(open_images(place, data_root=str(folder))) == 1
        assert len(FolderImages(place)) == 1
    fitted().save(str(folder / "run"))
    assert NRE.load(str(folder / "run")).embeddings_.shape == (12, 4)
    images = images_from_array(gray(2), labels=["cafe\u0301", "caf\u00e9"])
    assert images.classes == ["caf\u00e9"]


@cell("python", "encoding", "obeyed: tensors on any device, with gradients; lists; data frames")
def encoding(folder: Path) -> None:
    expected = fitted().transform(gray())
    tensor = torch.from_numpy(gray()).float().requires_grad_()
    floats = NRE(**QUICK).fit(gray() / 255).transform(gray() / 255)
    assert np.allclose(NRE(**QUICK).fit(tensor / 255).transform(tensor / 255), floats, atol=1e-4)
    assert np.allclose(fitted().transform(list(gray())), expected)
    assert np.allclose(fitted().transform([torch.from_numpy(each) for each in gray()]), expected)
    decoded = fitted().inverse_transform(torch.from_numpy(expected).requires_grad_())
    assert decoded.shape == (12, 12, 12)
    with rejection("not an array"):
        images_from_array(torch.zeros(2, 9, 9).to_sparse())
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(gray().reshape(12, -1))
    assert NRE(**QUICK).fit(frame).embeddings_.shape == (12, 4)
    column = pandas.Series(list(gray()))
    assert np.allclose(fitted().transform(column), expected)
    assert np.allclose(fitted().transform(column.to_numpy()), expected)
    assert str(resolve_device("cpu:0")) == "cpu:0"
    for device in ("cuda:99", "cpu:1", "tpu", "cuda:x", "cpu:"):
        with rejection(f"device {device!r} is not on this machine"):
            resolve_device(device)


@cell("python", "root", "rejected: what is no array of numbers")
def root(folder: Path) -> None:
    for given in ("photos", {"images": 1}, None):
        with pytest.raises((ValueError, TypeError)):
            NRE(**QUICK).fit(given)
        with rejection("'array'"):
            images_from_array(given)
        with rejection("expected Images"):
            train(given, configure())
    Image.fromarray(pattern()).save(folder / "a.png")
    for options in ({"bands": 3}, {"window": 5}, {"frame_rate": "2"}, {"size": "64"}):
        with rejection(*options):
            open_images(folder, **options)


@cell("python", "length", "rejected: fewer than two images in fit, none in transform")
def length(folder: Path) -> None:
    with pytest.raises(ValueError, match="minimum of 2"):
        NRE(**QUICK).fit(gray(1))
    with pytest.raises(ValueError, match="minimum of 1"):
        fitted().transform(gray()[:0])
    with rejection("holds no images"):
        images_from_array(gray()[:0])


@cell("python", "nan", "rejected: NaN and infinity, in images, weights and embeddings")
def nan(folder: Path) -> None:
    for bad in (np.nan, np.inf):
        images = gray() / 255
        images[1, 2, 3] = bad
        with pytest.raises(ValueError, match="NaN|infinity"):
            NRE(**QUICK).fit(images)
        with rejection("NaN or infinite"):
            images_from_array(images)
    model = NRE(**QUICK).fit(gray())
    with torch.no_grad():
        next(model.run_.network.encoder.parameters()).fill_(torch.nan)
    with rejection("NaN or infinity"):
        model.transform(gray())


@cell("python", "unused", "ignored: y in fit, as scikit-learn does")
def unused(folder: Path) -> None:
    labeled = NRE(**QUICK).fit(gray(), np.arange(12))
    assert np.array_equal(labeled.embeddings_, fitted().embeddings_)
