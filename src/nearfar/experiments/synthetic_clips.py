"""Normal clips with something in them that does not belong there: to choose by, not to test."""

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

#: Height and width of a thing, in pixels; of most people here, 24 to 46 and 10 to 25.
HEIGHTS, WIDTHS = (18, 44), (8, 28)
#: Pixels from one frame to the next: from a walker's pace to a few times that.
PACES = (0.6, 4.0)
#: By how many pixels what sways goes up and down, its share of width that comes and goes, and how
#: fast, in radians a frame: as people do who walk.
BOB, SWING, STEP = 1, 0.12, 0.7
#: Mean gray level of a thing, and the largest standard deviation of its levels.
LEVEL, CONTRAST = 85, 35
#: How steeply a thing fades out at its border, an ellipse.
EDGE = 4
#: Where a thing is more than the scene.
MOSTLY = 0.5
#: What decides how things look and move beside what is drawn.
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
class Way:
    """How a thing comes in at one side of a scene, and moves to the other, where it leaves.

    Parameters
    ----------
    start : int
        The number of the frame before which it comes in.
    top : int
        How far down, in pixels.
    pace : float
        Pixels to the right, or if negative to the left, with each frame.
    sways : bool
        Whether it bobs and swings, as walkers do, or glides.
    phase : float
        Where in its sway it begins, in radians.
    """

    start: int
    top: int
    pace: float
    sways: bool
    phase: float


class StagedClip(Clip):
    """A clip through which something moves that its scene does not have.

    Parameters
    ----------
    clip : Clip
        The scene.
    name : str
        What results call it.
    thing : Image
        What moves through it, in gray.
    way : Way
        How.
    """

    def __init__(self, clip: Clip, name: str, thing: Image.Image, way: Way) -> None:
        super().__init__(clip.size)
        self.clip, self.name, self.total, self.rate = clip, name, clip.total, clip.rate
        self.nominal_total = clip.nominal_total
        self.thing, self.way = thing, way

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        for number, pixels, *_ in self.clip:
            place, levels, share = self._placed(number, pixels.shape)
            staged = pixels.copy()
            staged[place] = np.rint(share * levels + (1 - share) * staged[place]).astype(np.uint8)
            yield Frame(number, staged)

    def of(self, number: int, name: str, shape: tuple[int, ...]) -> Mask:
        """Mark where the thing is in a frame, as `Masks` does."""
        mask = np.zeros(shape, bool)
        place, _, share = self._placed(number, shape)
        mask[place] = share > MOSTLY
        return mask

    def _placed(self, number: int, shape: tuple[int, ...]) -> tuple[Any, Shade, Shade]:
        """Where the thing is in a frame, its gray levels there, and how much it hides, 0…1."""
        way, steps = self.way, number - self.way.start
        sway = np.sin(STEP * steps + way.phase) if way.sways else 0.0
        height, width = self.thing.height, round(self.thing.width * (1 + SWING * sway))
        moved = round(way.pace * steps)
        left, top = moved - width if way.pace > 0 else shape[1] + moved, way.top + round(BOB * sway)
        levels = np.asarray(self.thing.resize((width, height)), np.float32)
        down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        share = (EDGE * (1 - down**2 - across**2)).clip(0, 1).astype(np.float32)
        inside = np.s_[:, slice(*np.clip([-left, shape[1] - left], 0, width))]
        columns = slice(*np.clip([left, left + width], 0, shape[1]))
        return np.s_[top : top + height, columns], levels[inside], share[inside]


def stage(clips: Sequence[Clip], pictures: Images, rounds: int, seed: int = 0) -> list[StagedClip]:
    """Put a thing into each clip, another one in each round; in every second one it sways.

    Parameters
    ----------
    clips : sequence of Clip
        Normal ones.
    pictures : Images
        Of things, uint8, in gray; a picture for each clip of each round.
    rounds : int
        How often each clip is used.
    seed : int
        Draws how large things are, and how they move.

    Returns
    -------
    list of StagedClip
        Round after round.
    """
    generator = np.random.default_rng(seed)
    scenes = [(clip, [frame.number for frame in clip]) for clip in clips]
    staged = []
    for picture, (turn, (clip, numbers)) in enumerate(product(range(1, rounds + 1), scenes)):
        thing = _thing(pictures.batch([picture])[0, 0].numpy(), generator)
        size = next(iter(clip)).pixels.shape
        way = _way(size, numbers, thing.height, sways=turn % 2 == 0, generator=generator)
        staged.append(StagedClip(clip, f"{clip.name}-{turn}", thing, way))
    return staged


def _thing(picture: Pixels, generator: np.random.Generator) -> Image.Image:
    """Scale a picture, uint8[h, w], to a size and to shades that people may have here."""
    levels = picture - picture.mean()
    levels *= min(1, CONTRAST / max(levels.std(), 1))
    height, width = (int(generator.integers(*sides, endpoint=True)) for sides in (HEIGHTS, WIDTHS))
    return Image.fromarray((LEVEL + levels).clip(0, 255).astype(np.uint8)).resize((width, height))


def _way(
    shape: tuple[int, ...],
    numbers: Sequence[int],
    height: int,
    *,
    sways: bool,
    generator: np.random.Generator,
) -> Way:
    """Draw a way through the middle half of a frame for a thing of a height, into these frames."""
    quarter = shape[0] // 4
    slowest, fastest = np.log(PACES)
    return Way(
        start=int(generator.choice(numbers[len(numbers) // 4 : len(numbers) // 2])),
        top=int(generator.integers(quarter, 3 * quarter - height)),
        pace=round(
            float(generator.choice([-1, 1]) * np.exp(generator.uniform(slowest, fastest))), 2
        ),
        sways=sways,
        phase=round(generator.uniform(0, 2 * np.pi), 2),
    )
