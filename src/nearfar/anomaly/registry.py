"""Protocol and registry of anomaly methods."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.patches import Grid, ScoreMap
from nearfar.config import TrainConfig
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig


class Scorer(Protocol):
    """Protocol for scoring every patch in a window of consecutive frames.

    Examples
    --------
    >>> import numpy as np
    >>> class Brightness:
    ...     def score(self, window, grid):
    ...         return grid.means(window[-1].astype(np.float32))
    >>> Brightness().score(np.zeros((1, 16, 16), np.uint8), Grid((16, 16), 8, 8)).shape
    (2, 2)
    """

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score the patches of a window. Scores are at least 0. Higher means more abnormal.

        Parameters
        ----------
        window : uint8[t, h, w], or uint8[1, h, w, 3] for photographs
            Consecutive frames.
        grid : Grid
            Positions of the patches.

        Returns
        -------
        float32[rows, columns]
        """
        ...


@dataclass(frozen=True)
class FitContext:
    """Settings and workspace for fitting a method.

    Parameters
    ----------
    config : DetectorConfig
        Settings of the detector.
    grid : Grid
        Positions of the patches in a frame.
    training : TrainConfig
        Training settings of networks. The seed is used for all random numbers.
    scratch : Path
        Existing folder for checkpoints and intermediate files, which all methods of a detector
        share. It is kept after an interruption, and deleted when the detector is complete.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Examples
    --------
    >>> from nearfar.anomaly import DetectorConfig
    >>> config = DetectorConfig.paper()
    >>> grid = Grid((60, 90), config.patch, config.stride)
    >>> FitContext(config, grid, TrainConfig(seed=1), Path("scratch")).training.seed
    1
    """

    config: DetectorConfig
    grid: Grid
    training: TrainConfig
    scratch: Path
    track: Track = silent


class Method(ABC):
    """Base class of anomaly methods, which are fitted to normal clips and score patches.

    To add a method, define a subclass, set `name`, and register it with `register_method`. The name
    can then be used in `DetectorConfig.methods`.

    Attributes
    ----------
    name : str
        Name of the method in `DetectorConfig.methods`, and of its folder. It consists of lowercase
        letters, digits and hyphens.
    photographs : bool
        Whether the method scores color images (uint8[t, h, w, 3]) of any size. Other methods are
        given grayscale frames of one size.
    min_patch : int
        Minimum side of a patch in pixels.
    min_frames : int
        Minimum number of frames in a window.

    Examples
    --------
    >>> import numpy as np
    >>> class Brightness(Method):
    ...     name = "example-brightness"
    ...     def __init__(self, mean: float) -> None:
    ...         self.mean = mean
    ...     @classmethod
    ...     def fit(cls, clips, context):
    ...         return cls(float(np.mean([frame.pixels.mean() for c in clips for frame in c])))
    ...     def score(self, window, grid):
    ...         return np.abs(grid.means(window[-1].astype(np.float32)) - self.mean)
    ...     def write(self, folder):
    ...         (folder / "mean.txt").write_text(repr(self.mean))
    ...     @classmethod
    ...     def read(cls, folder, config):
    ...         return cls(float((folder / "mean.txt").read_text()))
    >>> Brightness(100.0).score(np.full((1, 16, 16), 90, np.uint8), Grid((16, 16), 8, 8)).max()
    np.float32(10.0)
    """

    name: ClassVar[str]
    photographs: ClassVar[bool] = False
    min_patch: ClassVar[int] = 8
    min_frames: ClassVar[int] = 1

    @classmethod
    def check(cls, config: DetectorConfig) -> None:
        """Check that the method supports a configuration.

        By default, only the number of frames is checked.

        Raises
        ------
        NearfarError
            If the method does not support the configuration.
        """
        if config.frames < cls.min_frames:
            raise NearfarError(
                f"frames={config.frames}: expected at least {cls.min_frames} for method "
                f"{cls.name!r}"
            )

    @classmethod
    @abstractmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Fit the method to normal clips.

        After an interruption, `fit` is called again with the same clips and scratch folder. It
        should then continue, and return the same result as an uninterrupted fit.

        Raises
        ------
        NearfarError
            If the clips cannot be used.
        """

    @abstractmethod
    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score a window of frames. See `Scorer.score`."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the method to an empty folder, in the form that `read` expects."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read a method written by `write`.

        Raises
        ------
        NearfarError
            If a file is missing or damaged.
        """


class LeaveOneOutMethod(Method):
    """Base class of methods that can score each normal photograph against all others.

    For these methods, no normal photographs have to be held out to set the threshold.

    Examples
    --------
    >>> from nearfar.anomaly import PatchMemory
    >>> issubclass(PatchMemory, LeaveOneOutMethod)
    True
    """

    photographs = True

    @abstractmethod
    def score_left_out(self, window: Pixels, grid: Grid, number: int) -> ScoreMap:
        """Score a normal photograph as if the method had been fitted to all other photographs.

        Parameters
        ----------
        window, grid
            See `Scorer.score`.
        number : int
            Index of the photograph among those that the method was fitted to.

        Returns
        -------
        float32[rows, columns]
        """


#: Methods by name.
METHODS: dict[str, type[Method]] = {}

_M = TypeVar("_M", bound=type[Method])


def register_method(method: _M) -> _M:
    """Register a method by its name. This function can be used as a class decorator.

    Raises
    ------
    NearfarError
        If the name is not a lowercase word with optional hyphens, or belongs to another method.

    Examples
    --------
    >>> from nearfar.anomaly.methods import Appearance
    >>> register_method(Appearance).name
    'appearance'
    """
    name = getattr(method, "name", "")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise NearfarError(
            f"{method.__name__}.name={name!r}: expected lowercase letters, digits and hyphens"
        )
    # The same class, redefined as in notebooks, replaces itself.
    if METHODS.get(name, method).__qualname__ != method.__qualname__:
        raise NearfarError(
            f"method {name!r} is {METHODS[name].__qualname__} already: choose another name"
        )
    METHODS[name] = method
    return method


def find_method(name: str) -> type[Method]:
    """Return the registered method with a given name.

    Raises
    ------
    NearfarError
        If there is no method with that name.

    Examples
    --------
    >>> find_method("motion").__name__
    'Motion'
    """
    if name not in METHODS:
        raise NearfarError(
            f"methods has {name!r}, which is unknown: expected {', '.join(sorted(METHODS))}, or "
            "your own after register_method"
        )
    return METHODS[name]
