"""Cells of run folders."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from nearfar import NRE
from nearfar.data import images_from_array
from nearfar.runs import (
    CONFIG,
    EMBEDDINGS,
    EVALUATION,
    LOG,
    MODEL,
    read_config,
    read_evaluation,
    read_log,
    read_run,
    write_evaluation,
)
from readers.support import command, listing, noise, rejected, rejection
from readers.table import cell


@cache
def original() -> Path:
    """A run on color images of 12×12 pixels, with its images beside it."""
    place = Path(tempfile.mkdtemp(prefix="nearfar-readers-"))
    np.save(place / "data.npy", noise(12))
    said = command(
        *("train", place / "data.npy", "--out", place / "run", "--pretrain-epochs", 1),
        *("--epochs", 1, "--batch-size", 4, "--embedding-size", 4, "--clusters", 2),
        *("--device", "cpu"),
    )
    assert said.code == 0, said
    return place


def a_run(folder: Path) -> Path:
    """Copy the run."""
    return shutil.copytree(original() / "run", folder / "run")


def change(run: Path, edit: Callable[[dict[str, Any]], Any], name: str = CONFIG) -> None:
    saved = json.loads((run / name).read_text())
    edit(saved)
    (run / name).write_text(json.dumps(saved))


def set_data(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda saved: saved["data"].update(values)


def damaged(folder: Path, edit: Callable[[dict[str, Any]], Any], *words: str) -> None:
    """Check that a changed config.json is told in one line."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = a_run(folder)
    change(run, edit)
    with rejection(*words):
        read_run(run)


@cell("run", "orientation", "rejected: unknown entries of config.json")
def orientation(folder: Path) -> None:
    damaged(folder, set_data(orientation=6), "damaged", "orientation")


@cell("run", "size", "obeyed: later images are scaled to it; impossible ones are rejected")
def size(folder: Path) -> None:
    np.save(folder / "large.npy", noise(3, 24))
    out = folder / "e.npz"
    assert command("encode", a_run(folder), folder / "large.npy", "--out", out).code == 0
    for shape in ([3, 12], [3, 0, 12], [3, 12, 13], [3, 10**7, 10**7], "large"):
        damaged(folder, set_data(shape=shape))


@cell("run", "range", "rejected: numbers out of range in config.json")
def value_range(folder: Path) -> None:
    damaged(folder, lambda saved: saved["train"]["optim"].update(batch_size=0), "batch_size")
    damaged(folder, set_data(images=0))
    damaged(folder, set_data(pixel_range=[1, 1]), "pixel_range")


@cell("run", "depth", "rejected: embeddings of another type than float32, weights of another shape")
def depth(folder: Path) -> None:
    run = a_run(folder)
    np.save(run / EMBEDDINGS, np.zeros((12, 4), np.float64))
    with rejection("damaged", "float64"):
        read_run(run)
    shutil.copy(original() / "run" / EMBEDDINGS, run)
    tensors = load_file(run / MODEL)
    save_file({name: tensor.flatten() for name, tensor in tensors.items()}, run / MODEL)
    with rejection("weights of another network"):
        read_run(run)


@cell("run", "white point", "obeyed: values of black and white of NRE.fit")
def white_point(folder: Path) -> None:
    images = noise(12)[..., 0] * 100.0
    model = NRE(embedding_size=4, epochs=0, pretrain_epochs=1, device="cpu").fit(images)
    model.save(folder / "run")
    again = NRE.load(folder / "run")
    assert np.allclose(again.transform(images), model.transform(images), atol=1e-5)
    assert read_config(folder / "run").data.pixel_range == (images.min(), images.max())


@cell("run", "channels", "obeyed: gray images are repeated for color runs; the reverse is rejected")
def channels(folder: Path) -> None:
    run = a_run(folder)
    np.save(folder / "gray.npy", noise(3)[..., 0][[0, 1, 2, 0]])
    assert command("encode", run, folder / "gray.npy", "--out", folder / "e.npz").code == 0
    gray = images_from_array(noise(12)[..., 0])
    model = NRE(embedding_size=4, epochs=0, pretrain_epochs=1, device="cpu").fit(gray)
    model.save(folder / "gray")
    said = command("encode", folder / "gray", original() / "data.npy", "--out", folder / "f.npz")
    rejected(said, "RGB", "gray")
    assert not (folder / "f.npz").exists()


@cell("run", "transparency", "rejected: unknown entries of config.json")
def transparency(folder: Path) -> None:
    damaged(folder, set_data(background="black"), "damaged", "background")


@cell("run", "profile", "rejected: unknown entries of config.json")
def profile(folder: Path) -> None:
    damaged(folder, set_data(profile="srgb"), "damaged", "profile")


@cell("run", "count", "rejected: another number of embeddings than of images")
def count(folder: Path) -> None:
    damaged(folder, set_data(images=13), "damaged", "float32[13, d]")


@cell("run", "time", "obeyed: seconds of log.jsonl; times of files are ignored")
def time(folder: Path) -> None:
    run = a_run(folder)
    assert all(line["seconds"] > 0 for line in read_log(run))
    (run / LOG).write_text('{"phase": "train", "epoch": 1, "seconds": "long"}\n')
    with rejection("damaged", "seconds"):
        read_run(run)


@cell("run", "rate", "obeyed: learning rates of config.json; others than positive are rejected")
def rate(folder: Path) -> None:
    damaged(folder, lambda saved: saved["train"]["optim"].update(lr=0), "lr")


@cell("run", "order", "obeyed: embeddings in the order of the images, in C or Fortran order")
def order(folder: Path) -> None:
    run = a_run(folder)
    expected = np.array(read_run(run).embeddings)
    np.save(run / EMBEDDINGS, np.asfortranarray(expected))
    assert np.array_equal(read_run(run).embeddings, expected)


@cell("run", "pairing", "rejected: weights of another network, a checkpoint of other images")
def pairing(folder: Path) -> None:
    def smaller(saved: dict[str, Any]) -> None:
        saved["train"]["network"]["embedding_size"] = 5

    damaged(folder, smaller, "weights of another network")


@cell("run", "names", "obeyed: folders with spaces and other letters; paths as text or Path")
def names(folder: Path) -> None:
    run = shutil.copytree(original() / "run", folder / "mein Lauf \u00e9 \u03b5")
    for path in (run, str(run)):
        assert read_run(path).embeddings.shape == (12, 4)
        assert read_config(path).data.images == 12
        assert len(read_log(path)) == 2
        assert read_evaluation(path) is None


@cell("run", "encoding", "obeyed: UTF-8, with or without a byte order mark; else rejected")
def encoding(folder: Path) -> None:
    run = a_run(folder)
    text = (run / CONFIG).read_bytes()
    (run / CONFIG).write_bytes(b"\xef\xbb\xbf" + text)
    assert read_config(run).data.images == 12
    (run / CONFIG).write_bytes(text.decode().encode("utf-16"))
    with rejection("damaged"):
        read_config(run)


@cell("run", "root", "rejected: no folder, no run, another format, or entries that are no mapping")
def root(folder: Path) -> None:
    with rejection("does not exist"):
        read_run(folder / "absent")
    with rejection("is not a run"):
        read_run(folder)
    for text in ("[]", "3", "null", "{}", '{"format": "two"}', '{"format": true}', "{"):
        run = a_run(folder)
        (run / CONFIG).write_text(text)
        with rejection("run"):
            read_run(run)
        shutil.rmtree(run)
    damaged(folder, lambda saved: saved.update(format=99), "format 99")


@cell(
    "run", "length", "rejected: truncated files; a last log line that a crash cut short is ignored"
)
def length(folder: Path) -> None:
    for name in (CONFIG, MODEL, EMBEDDINGS):
        run = a_run(folder)
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[: len(data) // 2])
        with rejection("damaged", name):
            read_run(run)
        shutil.rmtree(run)
    run = a_run(folder)
    with (run / LOG).open("a") as file:
        file.write('{"phase": "tr')
    assert len(read_run(run).log) == 2


@cell("run", "nan", "rejected: NaN in weights, embeddings, scores or settings, by every command")
def nan(folder: Path) -> None:
    run, data = a_run(folder), original() / "data.npy"
    tensors = load_file(run / MODEL)
    name = next(name for name in tensors if name.startswith("network.encoder"))
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, run / MODEL)
    before = listing(folder)
    labeled = folder / "labeled.npz"
    np.savez(labeled, images=noise(12), labels=np.arange(12) % 2)
    before["labeled.npz"] = labeled.read_bytes()
    for words in (
        ("encode", run, data, "--out", folder / "e.npz"),
        ("neighbors", run, data, "--query", 0, "--out", folder / "n"),
        ("evaluate", run, "--train", labeled),
        ("report", run, "--data", data, "--out", folder / "r"),
        ("reconstruct", run, data, "--out", folder / "x"),
    ):
        rejected(command(*words), "NaN")
    assert listing(folder) == before
    shutil.rmtree(run)
    run = a_run(folder)
    embeddings = np.load(run / EMBEDDINGS)
    embeddings[3, 0] = np.inf
    np.save(run / EMBEDDINGS, embeddings)
    with rejection("NaN or infinity, first in row 3"):
        read_run(run)
    damaged(folder, set_data(pixel_range=[0, float("nan")]), "pixel_range")
    rows = {"pixels": {"knn": {"mean": float("nan"), "std": None}}}
    run = folder / "run"
    saved = {"columns": {"knn": "5-NN"}, "rows": rows, "settings": {}, "notes": []}
    write_evaluation(run, saved)
    from nearfar.evaluation import read_scores

    with rejection("damaged", EVALUATION):
        read_scores(run)


@cell("run", "unused", "ignored: other files; they stay, and the folder is not replaced")
def unused(folder: Path) -> None:
    run = a_run(folder)
    (run / "notes.txt").write_text("mine")
    assert read_run(run).embeddings.shape == (12, 4)
    said = command("train", original() / "data.npy", "--out", run, "--overwrite", "--epochs", 1)
    rejected(said, "notes.txt")
    assert (run / MODEL).exists()
