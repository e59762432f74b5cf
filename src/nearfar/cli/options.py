"""Options shared by several commands."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from nearfar.config import TIMM
from nearfar.errors import NearfarError, printable
from nearfar.progress import tracked

if TYPE_CHECKING:
    from rich.console import Console

    from nearfar.config import RecipeName
    from nearfar.data import Images
    from nearfar.defense import Purifier
    from nearfar.encoders import Encoder
    from nearfar.progress import Bars
    from nearfar.runs import RunConfig, RunData
    from nearfar.training import Defaults

#: Maximum number of skipped files that a command lists, and the same if the run folder lists all.
MAX_SHOWN, MAX_SHOWN_IF_LISTED = 100, 5

DATA_HELP = (
    "A folder of images; a .csv or .parquet with paths, or with images; .tar shards; a video; "
    "an .npy or .npz file; or a named data set: mnist:train, mnist:test, fashion-mnist:train, "
    "fashion-mnist:test, or 5,000 MNIST digits: mnist5k, mnist5k:train or mnist5k:test."
)
Data = Annotated[str, Parameter(help=DATA_HELP)]
ShownData = Annotated[
    str | None,
    Parameter(help=f"Images to show. Default: the run's training images. {DATA_HELP}"),
]
Run = Annotated[Path, Parameter(help="A run folder, from nearfar train.")]
ENCODER_HELP = (
    "A run folder, from nearfar train; timm:NAME, a pretrained timm model; or a "
    ".parquet or .npz of embeddings, from nearfar encode."
)
EncoderName = Annotated[str, Parameter(help=ENCODER_HELP)]
Seed = Annotated[int, Parameter(help="Random seed.", validator=Number(gte=0, lt=2**32))]
Device = Annotated[
    str, Parameter(help="auto, cpu, cuda or mps, or a specific device, such as cuda:1.")
]
Overwrite = Annotated[bool, Parameter(help="Replace an existing output.")]
OverwriteFiles = Annotated[
    bool, Parameter(help="Replace existing files; files with other names are kept.")
]


@Parameter(name="*", group=Group("Purification", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class PurifierOptions:
    """Options for the purification of images."""

    passes: int = 1
    "Number of successive reconstructions."
    noise_std: float = 0.0
    "Standard deviation of the noise added before each encoding, where 0 is black and 1 is white."
    votes: int = 0
    "Number of nearest training images to use in place of an image, or 0 to use the image itself."

    def load(self, run: Path) -> Purifier:
        """Load a purifier from a run folder."""
        from nearfar.defense import NeighborPurifier, Purifier

        if self.votes:
            return NeighborPurifier.load(run, **asdict(self))
        return Purifier.load(run, passes=self.passes, noise_std=self.noise_std)


@Parameter(name="*", group=Group("Images", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options for reading images."""

    data_root: Path | None = None
    "Folder of the named data sets. Default: $NEARFAR_DATA, or ~/.cache/nearfar."
    strict: bool = False
    "Stop at the first unreadable file instead of skipping it."
    window: tuple[float, float] | None = None
    "Pixel values of black and white in files with more than 8 bits. Default: as in the files."
    bands: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)] = None
    "Bands to use in TIFF files with more than three, counted from 1: one for gray, three for RGB."
    frame_rate: float | None = None
    "Number of frames to use per second of video. Default: videos are not used."

    @property
    def of_files(self) -> dict[str, Any]:
        """Options for `nearfar.data.open_images` that define how files are read."""
        names = ("data_root", "strict", "window", "bands", "frame_rate")
        return {name: getattr(self, name) for name in names}

    def open(
        self, source: str, track: Bars, listed_in: Path | None = None, **wanted: Any
    ) -> Images:
        """Open images and report skipped files.

        `listed_in` is the file with the full list of skipped files.
        """
        from nearfar.data import open_images

        ignore_bombs()
        images = open_images(source, progress=track, **self.of_files, **wanted)
        report_skipped(images.skipped, track.progress.console, listed_in)
        return images

    def open_for(self, run: RunConfig, source: str | None, track: Bars) -> Images:
        """Open images in the shape that a run expects.

        By default, the training images of the run are opened.
        """
        channels, height, width = run.data.shape
        options = replace(
            self,
            window=self.window or run.data.window,
            bands=self.bands or run.data.bands,
            frame_rate=self.frame_rate or run.data.frame_rate,
        )
        if source is None:
            source, root = run.data.source, run.data.data_root
            if self.data_root is None and root:
                options = replace(options, data_root=Path(root))
            try:
                return options.open_for(run, source, track)
            except NearfarError as error:
                raise NearfarError(
                    f"the run was trained on {source!r}, which cannot be opened in "
                    f"{str(Path.cwd())!r}: name its images with --data ({error})"
                ) from error
        return options.open(source, track, channels=channels, size=(height, width))

    def open_like(self, encoder: Encoder, source: str | None, track: Bars) -> Images:
        """Open images at the size that an encoder expects.

        If the encoder is a run, the training images are opened by default.
        """
        for name, stored in encoder.reading.items():
            given = getattr(self, name)
            if given is not None and tuple(given) != stored:
                raise NearfarError(
                    f"--{name} {_words(given)}: the embeddings were made with --{name} "
                    f"{_words(stored)}, so leave it out"
                )
        options = replace(self, **encoder.reading)
        if encoder.run is not None:
            return options.open_for(encoder.run.config, source, track)
        if source is None:
            raise NearfarError(f"{encoder.name} has no images of its own: expected --data")
        return options.open(source, track, size=encoder.size, channels=encoder.channels)


@Parameter(name="*", group=Group("timm models", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Options for encoders that are timm models."""

    weights: str | None = None
    "Weights of timm:NAME: pretrained, random or a file. Default: pretrained."
    size: int | None = None
    "Image side for timm:NAME, in pixels. Default: the input size of the pretrained weights."

    def open(self, encoder: str, track: Bars) -> Encoder:
        """Open an encoder."""

        def load() -> Encoder:
            from nearfar.encoders import open_encoder  # torch takes seconds

            return open_encoder(encoder, weights=self.weights, size=self.size)

        return tracked(track, f"loading {encoder}", load)

    def open_all(self, encoders: Sequence[str], track: Bars) -> list[Encoder]:
        """Open several encoders. If some are timm models, the options apply only to these."""
        mine = [name.startswith(TIMM) for name in encoders]
        others = EncoderOptions() if any(mine) else self
        return [
            (self if timm else others).open(name, track)
            for name, timm in zip(encoders, mine, strict=True)
        ]


@Parameter(name="*", group=Group("Images", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class TrainDataOptions(DataOptions):
    """Options for reading training images."""

    size: Annotated[
        int | None,
        Parameter(help="Image side in pixels, at least 8. Default: depends on the images."),
    ] = None
    channels: Literal[1, 3] | None = None
    "1 for grayscale, 3 for color. Default: as in the files."

    def open_with_defaults(
        self,
        source: str,
        track: Bars,
        listed_in: Path | None,
        options: Mapping[str, Any],
        recipe: RecipeName | None,
    ) -> tuple[Images, Defaults]:
        """Open training images, report skipped files, and choose default settings."""
        from nearfar.training import open_with_defaults

        ignore_bombs()
        reading = {"channels": self.channels, "progress": track, **self.of_files}
        images, chosen = open_with_defaults(source, options, recipe, size=self.size, **reading)
        report_skipped(images.skipped, track.progress.console, listed_in)
        images.origin = replace(self, size=self.size or chosen.size).to_dict(images)
        return images, chosen

    def to_dict(self, images: Images) -> dict[str, Any]:
        """Return the options with which images were opened, in the form recorded in runs."""
        root = None if self.data_root is None else str(self.data_root)
        window = images.origin.get("window", self.window)
        return {**asdict(self), "data_root": root, "window": window}

    def or_those_of(self, data: RunData) -> TrainDataOptions:
        """Return the options. Those that were not given are taken from a run."""
        root = data.data_root
        return replace(
            self,
            data_root=self.data_root or (None if root is None else Path(root)),
            strict=self.strict or data.strict,
            size=self.size or data.size,
            channels=self.channels or cast(Any, data.channels),
            window=self.window or data.window,
            bands=self.bands or data.bands,
            frame_rate=self.frame_rate or data.frame_rate,
        )


def _words(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.10g}" for number in numbers)


def ignore_bombs() -> None:
    """Silence Pillow's warning about huge images. nearfar skips and reports such images itself."""
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def report_skipped(skipped: Sequence[str], console: Console, listed_in: Path | None = None) -> None:
    """Print the first skipped files with reasons, and the number of skipped files.

    If `listed_in` is given, it is named as the file with the full list.
    """
    shown = MAX_SHOWN if listed_in is None else MAX_SHOWN_IF_LISTED

    def say(line: str) -> None:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

    for line in skipped[:shown]:
        say(f"skipped {line}")
    if len(skipped) > shown:
        place = "" if listed_in is None else f": {listed_in} lists them"
        say(f"skipped {len(skipped)} in all{place}")


def shown(path: Path) -> str:
    """Return a path as one line for printing."""
    return printable(str(path))


def bars() -> Bars:
    """Return a progress display that writes to standard error.

    With several processes, only the first one writes.
    """
    from rich.console import Console

    from nearfar.progress import Bars

    return Bars(Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0"))


def bars_after_torch() -> Bars:
    """Import torch, which takes seconds, and return the progress display."""
    track = bars()
    tracked(track, "loading torch", partial(import_module, "torch"))
    return track
