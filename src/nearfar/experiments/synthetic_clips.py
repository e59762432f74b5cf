"""Synthetic abnormal clips for model selection: normal clips through which an object moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.anomaly import Clip, Frame, Mask, Pixels
from nearfar.data import Images

Shade = npt.NDArray[np.float32]

#: Ranges of object heights and widths, in pixels; most people in Ped2 are 24–46 by 10–25 pixels.
HEIGHTS, WIDTHS = (18, 44), (8, 28)
#: Range of speeds in pixels per frame, from walking speed to a few times faster.
SPEEDS = (0.6, 4.0)
#: Sway of an object, as of walking people: vertical amplitude in pixels, relative amplitude of the
#: width, and angular frequency in radians per frame.
BOB, SWING, STEP = 1, 0.12, 0.7
#: Mean gray level of an object, and maximum standard deviation of its gray levels.
LEVEL, CONTRAST = 85, 35
#: Steepness of the fade at the border of an object, which is an ellipse.
EDGE = 4
#: Alpha above which a pixel counts as part of an object.
MOSTLY = 0.5
#: Fixed settings of appearance and motion of objects.
STAGING = {
    "bob": BOB,
    "swing": SWING,
    "step": STEP,
    "level": LEVEL,
    "contrast": CONTRAST,
    "edge": EDGE,
    "mostly": MOSTLY,
}


@dataclass(frozen=True)
class Trajectory:
    """Trajectory of an object that crosses a scene from one side to the other.

    Parameters
    ----------
    start : int
        Number of the last frame before the object becomes visible.
    top : int
        Distance of the object from the top of the frame, in pixels.
    pace : float
        Speed in pixels per frame: positive to the right, negative to the left.
    sways : bool
        Whether the object sways like a walker; otherwise it glides.
    phase : float
        Initial phase of the sway, in radians.
    """

    start: int
    top: int
    pace: float
    sways: bool
    phase: float


class StagedClip(Clip):
    """Clip with an inserted object that moves through the scene, and masks of the object.

    Parameters
    ----------
    clip : Clip
        Clip of the scene without the object.
    name : str
        Name of the new clip.
    picture : Image
        Grayscale picture of the object.
    trajectory : Trajectory
        Trajectory of the object.
    """

    def __init__(self, clip: Clip, name: str, picture: Image.Image, trajectory: Trajectory) -> None:
        super().__init__(clip.size)
        self.clip, self.name, self.total, self.rate = clip, name, clip.total, clip.rate
        self.nominal_total = clip.nominal_total
        self.picture, self.trajectory = picture, trajectory

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        for number, pixels, *_ in self.clip:
            place, levels, alpha = self._placed(number, pixels.shape)
            staged = pixels.copy()
            staged[place] = np.rint(alpha * levels + (1 - alpha) * staged[place]).astype(np.uint8)
            yield Frame(number, staged)

    def mask(self, number: int, name: str, shape: tuple[int, ...]) -> Mask:
        """Return the mask of the object in a frame (bool[h, w]), see `Masks.mask`."""
        mask = np.zeros(shape, bool)
        place, _, alpha = self._placed(number, shape)
        mask[place] = alpha > MOSTLY
        return mask

    def _placed(self, number: int, shape: tuple[int, ...]) -> tuple[Any, Shade, Shade]:
        """Return the object in a frame: its position, gray levels, and alpha values in [0, 1]."""
        trajectory, steps = self.trajectory, number - self.trajectory.start
        sway = np.sin(STEP * steps + trajectory.phase) if trajectory.sways else 0.0
        height, width = self.picture.height, round(self.picture.width * (1 + SWING * sway))
        moved = round(trajectory.pace * steps)
        left, top = (
            moved - width if trajectory.pace > 0 else shape[1] + moved,
            trajectory.top + round(BOB * sway),
        )
        levels = np.asarray(self.picture.resize((width, height)), np.float32)
        down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        alpha = (EDGE * (1 - down**2 - across**2)).clip(0, 1).astype(np.float32)
        inside = np.s_[:, slice(*np.clip([-left, shape[1] - left], 0, width))]
        columns = slice(*np.clip([left, left + width], 0, shape[1]))
        return np.s_[top : top + height, columns], levels[inside], alpha[inside]


def stage(clips: Sequence[Clip], pictures: Images, rounds: int, seed: int = 0) -> list[StagedClip]:
    """Return clips with an inserted object.

    Each clip is used once per round, with a different object in each round. The object sways in
    every second round.

    Parameters
    ----------
    clips : sequence of Clip
        Normal clips.
    pictures : Images
        Grayscale pictures of objects (uint8), one for each clip and round.
    rounds : int
        Number of rounds.
    seed : int
        Seed for the sizes and the paths of the objects.

    Returns
    -------
    list of StagedClip
        Clips with objects, ordered by round.
    """
    generator = np.random.default_rng(seed)
    scenes = [(clip, [frame.number for frame in clip]) for clip in clips]
    staged = []
    for index, (round_number, (clip, numbers)) in enumerate(product(range(1, rounds + 1), scenes)):
        picture = _picture(pictures.batch([index])[0, 0].numpy(), generator)
        size = next(iter(clip)).pixels.shape
        trajectory = _trajectory(
            size, numbers, picture.height, sways=round_number % 2 == 0, generator=generator
        )
        staged.append(StagedClip(clip, f"{clip.name}-{round_number}", picture, trajectory))
    return staged


def _picture(picture: Pixels, generator: np.random.Generator) -> Image.Image:
    """Return a picture of an object with the typical size and gray levels of people in Ped2."""
    levels = picture - picture.mean()
    levels *= min(1, CONTRAST / max(levels.std(), 1))
    height, width = (int(generator.integers(*sides, endpoint=True)) for sides in (HEIGHTS, WIDTHS))
    return Image.fromarray((LEVEL + levels).clip(0, 255).astype(np.uint8)).resize((width, height))


def _trajectory(
    shape: tuple[int, ...],
    numbers: Sequence[int],
    height: int,
    *,
    sways: bool,
    generator: np.random.Generator,
) -> Trajectory:
    """Return a random trajectory for an object with the given height.

    The object stays in the middle half of the frame height.
    """
    quarter = shape[0] // 4
    slowest, fastest = np.log(SPEEDS)
    return Trajectory(
        start=int(generator.choice(numbers[len(numbers) // 4 : len(numbers) // 2])),
        top=int(generator.integers(quarter, 3 * quarter - height)),
        pace=round(
            float(generator.choice([-1, 1]) * np.exp(generator.uniform(slowest, fastest))), 2
        ),
        sways=sways,
        phase=round(generator.uniform(0, 2 * np.pi), 2),
    )
