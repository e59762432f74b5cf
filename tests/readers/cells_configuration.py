"""Cells of configuration files, ``nearfar train --config``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from cyclopts import CycloptsError

from nearfar.cli.main import make_app
from nearfar.runs import read_config
from readers.support import Said, command, listing, noise, rejected
from readers.table import cell

QUICK = {
    "epochs": 0,
    "pretrain_epochs": 1,
    "embedding_size": 4,
    "batch_size": 4,
    "device": "cpu",
}


def train(folder: Path, text: str | bytes, name: str = "run.yaml", *options: object) -> Said:
    """Train with a configuration file; data and output are given beside it."""
    np.save(folder / "data.npy", noise(8))
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    data, out = folder / "data.npy", folder / "run"
    return command("train", data, "--out", out, "--config", path, *options)


def refuses(folder: Path, text: str | bytes, *words: str, name: str = "run.yaml") -> None:
    """Check that a configuration is rejected by name, and that nothing is left."""
    rejected(train(folder, text, name), name, *words)
    assert not (folder / "run").exists()


def unknown(folder: Path, option: str) -> None:
    refuses(folder, f"epochs: 1\n{option}\n", option.partition(":")[0], "no such option")


@cell("configuration", "orientation", "rejected: no such option; images state it themselves")
def orientation(folder: Path) -> None:
    unknown(folder, "orientation: 6")


@cell("configuration", "size", "obeyed: at least 8 pixels; others are rejected")
def size(folder: Path) -> None:
    assert train(folder, yaml.safe_dump(QUICK | {"size": 16})).code == 0
    assert read_config(folder / "run").data.shape == (3, 16, 16)
    (folder / "2").mkdir()
    rejected(train(folder / "2", "size: 3\nepochs: 1\n"), "size 3 is too small")
    rejected(train(folder / "2", "size: 100000\nepochs: 1\n"), "size 100000 is too large")
    refuses(folder / "2", "size: [3, 4]\n", "size=[3, 4]")


@cell("configuration", "range", "rejected: numbers out of range, with the option and the file")
def value_range(folder: Path) -> None:
    for text, words in (
        ("epochs: -1", ("epochs=-1", "run.yaml")),
        ("batch_size: 0", ("batch_size=0", "run.yaml")),
        ("loss_weights: [1, 1, 1]", ("loss_weights", "run.yaml")),
        ("seed: -1", ("seed=-1", "run.yaml")),
        ("seed: 010", ("010: expected a decimal number", "run.yaml")),
        ("seed: 1:30", ("1:30: expected a decimal number", "run.yaml")),
    ):
        refuses(folder, text, *words)


@cell("configuration", "depth", "rejected: a value of another type, with the option and the file")
def depth(folder: Path) -> None:
    for text, words in (
        ("loss_weights: 0.5,0.2,0.3", ("loss_weights='0.5,0.2,0.3'", "expected 3 values")),
        ("loss_weights: [0.5, 0.5]", ("loss_weights=[0.5, 0.5]", "expected 3 values")),
        ("epochs: 2.5", ("epochs=2.5", "whole number")),
        ("epochs: true", ("epochs=True", "whole number")),
        ("epochs: many", ("epochs='many'", "whole number")),
        ("epochs: [1]", ("epochs=[1]",)),
        ("seed: 2024-01-01", ("seed=", "whole number")),
        ("strict: 3", ("strict=3",)),
        ("out: 2024", ("out=2024", "text")),
        ("objective: other", ("objective='other'", "relational")),
    ):
        refuses(folder, text, *words)
    options = QUICK | {"lr": "1e-3", "precision": 32}
    assert train(folder, "\n".join(f"{k}: {v}" for k, v in options.items())).code == 0
    assert read_config(folder / "run").train.optim.lr == 1e-3


@cell("configuration", "white point", "rejected: no such option; floats state 0…1")
def white_point(folder: Path) -> None:
    unknown(folder, "white: 4095")


@cell("configuration", "channels", "obeyed: 1 or 3; others are rejected")
def channels(folder: Path) -> None:
    refuses(folder, "channels: 4\n", "channels=4")
    refuses(folder, "channels: rgb\n", "channels='rgb'")


@cell("configuration", "transparency", "rejected: no such option; it is white")
def transparency(folder: Path) -> None:
    unknown(folder, "background: black")


@cell("configuration", "profile", "rejected: no such option; images state it themselves")
def profile(folder: Path) -> None:
    unknown(folder, "profile: srgb")


@cell("configuration", "count", "rejected: an option twice, and several documents in one file")
def count(folder: Path) -> None:
    refuses(folder, "epochs: 1\nepochs: 2\n", "epochs is given twice")
    refuses(folder, '{"epochs": 1, "epochs": 2}', "epochs is given twice", name="run.json")
    refuses(folder, "epochs: 1\n---\nepochs: 2\n", "not YAML")
    refuses(folder, "pretrain-lr: 1e-3\npretrain_lr: 1e-2\n", "pretrain_lr is given twice")


@cell("configuration", "time", "rejected: dates where a number is expected")
def time(folder: Path) -> None:
    refuses(folder, "epochs: 2024-01-01 10:00:00\n", "epochs=")


@cell("configuration", "rate", "obeyed: learning rates, also as 1e-3; others are rejected")
def rate(folder: Path) -> None:
    refuses(folder, "lr: -0.1\n", "lr=-0.1")
    refuses(folder, "lr: fast\n", "lr='fast'", "a number")


@cell("configuration", "order", "ignored: of options; the command line wins over the file")
def order(folder: Path) -> None:
    text = yaml.safe_dump(dict(reversed(QUICK.items())), sort_keys=False)
    assert train(folder, text, "run.yaml", "--embedding-size", 6).code == 0
    assert read_config(folder / "run").train.network.embedding_size == 6


@cell("configuration", "pairing", "rejected: an option of another objective, pretext or network")
def pairing(folder: Path) -> None:
    refuses(
        folder, "recipe: paper\ntemperature: 0.1\n", "temperature=0.1", "objective", "contrastive"
    )


@cell("configuration", "names", "obeyed: with hyphens or underscores; unknown names are rejected")
def names(folder: Path) -> None:
    text = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in QUICK.items())
    assert train(folder, text).code == 0
    (folder / "2").mkdir()
    for text in ("epoch: 3\n", "optim: {epoch: 3}\n", "3: 4\n", "config: x.yaml\n"):
        rejected(train(folder / "2", text), "run.yaml")


@cell(
    "configuration", "encoding", "obeyed: UTF-8, with or without a byte order mark; else rejected"
)
def encoding(folder: Path) -> None:
    text = yaml.safe_dump(QUICK)
    refuses(folder, text.encode("utf-16"), "expected UTF-8")
    refuses(folder, b"epochs: \xff\n", "expected UTF-8")
    assert train(folder, b"\xef\xbb\xbf" + text.encode()).code == 0
    (folder / "2").mkdir()
    assert train(folder / "2", b"\xef\xbb\xbf" + json.dumps(QUICK).encode(), "a.json").code == 0


@cell("configuration", "root", "rejected: anything but a mapping of options; no objects are made")
def root(folder: Path) -> None:
    for text in ("- epochs\n", "epochs\n", "3\n", "", "!!python/object/apply:os.getcwd []\n"):
        refuses(folder, text)
    refuses(folder, "[1]", name="run.json")
    refuses(folder, "{", name="run.json")
    (folder / "folder.yaml").mkdir()
    rejected(
        command("train", folder / "data.npy", "--out", folder / "run", "--config", folder),
        "cannot be read",
    )


@cell("configuration", "length", "rejected: deeply nested files, and aliases that multiply")
def length(folder: Path) -> None:
    refuses(folder, "epochs: " + "[" * 5000)
    refuses(folder, '{"epochs": ' + "[" * 100_000, name="run.json")
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
    )
    refuses(folder, f"{laughs}epochs: *a19\n")


@cell("configuration", "nan", "rejected: NaN and infinity")
def nan(folder: Path) -> None:
    for text in ("lr: .nan\n", "lr: .inf\n", "loss_weights: [.nan, 0.5, 0.5]\n"):
        refuses(folder, text, "run.yaml")
    refuses(folder, '{"lr": NaN}', "lr", name="run.json")


@cell("configuration", "unused", "rejected: options that have no effect; null counts as not given")
def unused(folder: Path) -> None:
    refuses(folder, "comment: mine\n", "no such option")
    assert train(folder, yaml.safe_dump(QUICK | {"size": None})).code == 0
    before = listing(folder)
    with pytest.raises(CycloptsError):
        make_app().parse_args(["train", "--unknown"], exit_on_error=False, print_error=False)
    assert listing(folder) == before
