"""The captioned world: a subject moves through a scene, and a sentence says so.

A clip is described by a `ClipSpec`, drawn by `render_clip` and told by `captions`; all three
depend on nothing but their arguments, so a seed names a clip for ever. `World` fixes which
subjects, motions and scenes exist and draws random specs from them; a tenth of all (subject,
motion, scene) combinations is held out of training, for tests of what was never seen.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latte_core.data.scenes import (
    COLOURS,
    SCENES,
    Image32,
    Rng,
    paint_background,
    paint_drift,
    paint_waves,
)
from latte_core.data.sprites import SUBJECTS, sprite_pyramid
from latte_core.errors import DataError

MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("moves left", "moves to the left", "goes left", "travels left", "flies left"),
    "right": ("moves right", "moves to the right", "goes right", "travels right", "flies right"),
    "up": ("rises up", "moves up", "goes up", "flies up"),
    "down": ("falls down", "moves down", "goes down", "drops down", "flies down"),
    "bounce": ("bounces", "jumps up and down", "jumps", "hops"),
    "spin": ("spins", "rotates", "turns around and around"),
    "grow": ("grows bigger", "gets bigger", "comes closer"),
    "shrink": ("shrinks", "gets smaller", "goes far away"),
    "swing": ("swings", "rocks from side to side"),
    "circle": ("flies in a circle", "moves in a circle"),
    "still": ("stands still", "does not move"),
    "zigzag": ("zigzags", "moves in a zigzag"),
}
SPOKEN = ("en", "ru")  # languages that `captions` can write
DRAWS = 20_000  # attempts at a combination of the wanted split; one in ten is held out
SIZES: dict[str, float] = {"small": 0.30, "": 0.40, "big": 0.54}


@dataclass(frozen=True)
class ClipSpec:
    """Everything that a clip shows. `colour` matters only when `scene` is "plain"."""

    subject: str
    motion: str
    scene: str
    colour: str
    size: str
    seed: int


@dataclass(frozen=True)
class World:
    """Which subjects, motions, scenes and plain colours exist, and the languages of captions.

    Raises DataError for a name that the renderer does not know.
    """

    subjects: tuple[str, ...] = tuple(SUBJECTS)
    motions: tuple[str, ...] = tuple(MOTIONS)
    scenes: tuple[str, ...] = ("plain", *SCENES)
    colours: tuple[str, ...] = tuple(COLOURS)
    languages: tuple[str, ...] = ("en",)

    def __post_init__(self) -> None:
        """Refuse names that cannot be drawn."""
        known = {
            "subjects": tuple(SUBJECTS),
            "motions": tuple(MOTIONS),
            "scenes": ("plain", *SCENES),
            "colours": tuple(COLOURS),
            "languages": SPOKEN,
        }
        for field, names in known.items():
            unknown = set(getattr(self, field)) - set(names)
            if unknown or not getattr(self, field):
                raise DataError(
                    f"World.{field} has unknown or no names {sorted(unknown)}; "
                    f"choose from {', '.join(names)}."
                )

    def is_held_out(self, spec: ClipSpec) -> bool:
        """Say whether this combination of subject, motion and place is never trained on."""
        place = spec.colour if spec.scene == "plain" else spec.scene
        return zlib.crc32(f"{spec.subject}/{spec.motion}/{place}".encode()) % 10 == 0

    def draw(self, rng: Rng, held_out: bool = False) -> ClipSpec:
        """Draw a random clip, from the training combinations or from the held-out ones.

        Raises DataError if the world is too small to have such combinations.
        """
        for _ in range(DRAWS):
            plain = "plain" in self.scenes and rng.random() < 0.4
            spec = ClipSpec(
                subject=str(rng.choice(self.subjects)),
                motion=str(rng.choice(self.motions)),
                scene="plain" if plain else str(rng.choice(self.scenes)),
                colour=str(rng.choice(self.colours)),
                size=str(rng.choice(["", "", "small", "big"])),
                seed=int(rng.integers(1 << 31)),
            )
            if self.is_held_out(spec) == held_out:
                return spec
        raise DataError(
            f"This world of {len(self.subjects)} subjects and {len(self.motions)} motions has no "
            f"{'held-out' if held_out else 'training'} combinations; give it more names."
        )


@dataclass
class Path:
    """Where a subject is in each frame: centre (x, y), side length, angle, all (F,).

    Lengths are fractions of the height; the angle is in degrees; squash is the height's factor.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    side: NDArray[np.float64]
    angle: NDArray[np.float64]
    squash: NDArray[np.float64]

    def at(self, frames: Sequence[int]) -> Path:
        """Return the path at some frames only."""
        k = list(frames)
        return Path(self.x[k], self.y[k], self.side[k], self.angle[k], self.squash[k])


def _ground_of(scene: str) -> float | None:
    """Where the ground lies, as a fraction of the height; None where nothing stands."""
    return 0.84 if scene == "plain" else SCENES[scene].ground


def _trace(spec: ClipSpec, count: int, aspect: float, rng: Rng) -> Path:
    """Lay the subject's path through `count` frames."""
    t = np.linspace(0, 1, count)
    base = SIZES[spec.size] * rng.uniform(0.94, 1.06)
    ground = _ground_of(spec.scene)
    stands = ground is not None and SUBJECTS[spec.subject].kind in ("walk", "drive", "thing")
    rest = ground - base / 2 + 0.03 if stands and ground else rng.uniform(0.4, 0.56)
    flat = np.ones(count)
    x = flat * (aspect / 2 + rng.uniform(-0.12, 0.12))
    path = Path(x, flat * rest, flat * base, 0 * t, flat.copy())
    _MOVES[spec.motion](path, t, rng, aspect)
    return path


def _sideways(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float, sign: float) -> None:
    reach = aspect * rng.uniform(0.5, 0.68)
    path.x[:] = aspect / 2 + sign * reach * (t - 0.5) + rng.uniform(-0.05, 0.05)


def _left(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    _sideways(path, t, rng, aspect, -1)


def _right(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    _sideways(path, t, rng, aspect, 1)


def _up(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    path.y[:] = 0.78 - 0.54 * t


def _down(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    path.y[:] = 0.24 + 0.54 * t


def _bounce(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    hop = np.abs(np.sin(np.pi * (2 * t + rng.uniform(0, 0.2))))
    path.y[:] = np.minimum(path.y, 0.66) + 0.08 - 0.3 * hop
    path.squash[:] = 1 - 0.18 * (hop < 0.25)


def _spin(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    path.angle[:] = 360 * t * rng.choice([-1.0, 1.0])
    path.y[:] = 0.5


def _grow(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    path.side *= 0.45 + 1.0 * t
    path.y[:] = 0.52


def _shrink(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    path.side *= 1.45 - 1.0 * t
    path.y[:] = 0.52


def _swing(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    path.angle[:] = 26 * np.sin(3 * np.pi * t)
    path.x += 0.1 * np.sin(3 * np.pi * t)


def _circle(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    phase = rng.uniform(0, 2 * np.pi)
    path.x[:] = aspect / 2 + 0.24 * np.cos(2 * np.pi * t + phase)
    path.y[:] = 0.5 + 0.2 * np.sin(2 * np.pi * t + phase)


def _still(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    """Leave the path as it is."""


def _zigzag(path: Path, t: NDArray[np.float64], rng: Rng, aspect: float) -> None:
    _sideways(path, t, rng, aspect, float(rng.choice([-1, 1])))
    path.y += 0.18 * np.abs((2.5 * t) % 1 * 2 - 1) - 0.16


_MOVES = {
    "left": _left,
    "right": _right,
    "up": _up,
    "down": _down,
    "bounce": _bounce,
    "spin": _spin,
    "grow": _grow,
    "shrink": _shrink,
    "swing": _swing,
    "circle": _circle,
    "still": _still,
    "zigzag": _zigzag,
}


def render_clip(
    spec: ClipSpec,
    num_frames: int = 16,
    height: int = 64,
    width: int | None = None,
    only: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Draw a clip, or `only` some of its frames. Returns uint8 (F, H, W, 3)."""
    width = width or height
    rng = np.random.default_rng(spec.seed)
    background = paint_background(spec.scene, spec.colour, (height, width), rng)
    path = _trace(spec, num_frames, width / height, rng)
    _add_gait(spec, path)
    rightward = _faces_right(path, rng)
    phase, times = rng.uniform(0, 2 * np.pi), np.linspace(0, 1, num_frames)
    if only is not None:
        path, times = path.at(only), times[list(only)]
    frames = np.repeat(background[None], len(times), 0)
    if spec.scene == "sea":
        paint_waves(frames, times, phase)
    elif spec.scene in ("snow", "underwater"):
        paint_drift(frames, times, rng, falling=spec.scene == "snow")
    ground = _ground_of(spec.scene)
    if ground is not None and SUBJECTS[spec.subject].kind != "swim":
        _cast_shadow(frames, path, ground)
    sprites = _place_sprites(spec.subject, path, (height, width), rightward)
    frames *= 1 - sprites[..., 3:]
    frames += sprites[..., :3]
    return np.clip(frames * 255 + 0.5, 0, 255).astype(np.uint8)


def _faces_right(path: Path, rng: Rng) -> bool:
    """Face the way that the path goes; without a way, either."""
    going = float(path.x[-1] - path.x[0])
    return going > 0 if abs(going) > 0.2 else bool(rng.random() < 0.5)


def _add_gait(spec: ClipSpec, path: Path) -> None:
    """Let walkers bob and sway as they go sideways."""
    if SUBJECTS[spec.subject].kind == "walk" and spec.motion in ("left", "right"):
        swing = np.sin(np.linspace(0, 4 * np.pi, len(path.x)))
        path.y -= 0.012 * np.abs(swing)
        path.angle += 3 * swing


def _cast_shadow(frames: Image32, path: Path, ground: float) -> None:
    """Darken the ground below the subject, less the higher it hangs; in place."""
    _, h, w, _ = frames.shape
    top = int((ground - 0.1) * h)
    gy = ((np.arange(top, h) + 0.5) / h)[None, :, None] - ground - 0.03
    gx = ((np.arange(w) + 0.5) / h)[None, None] - path.x[:, None, None]
    air = np.clip(ground + 0.03 - path.y - path.side / 2, 0, 0.4)[:, None, None] * 2
    wide = path.side[:, None, None] * 0.42 * (1 - 0.5 * air)
    blot = np.exp(-1.2 * ((gx / wide) ** 2 + (gy / (path.side[:, None, None] * 0.1)) ** 2))
    frames[:, top:] *= (1 - 0.36 * (1 - air) * blot)[..., None].astype(np.float32)


def _place_sprites(subject: str, path: Path, shape: tuple[int, int], rightward: bool) -> Image32:
    """Draw the subject alone along its path: premultiplied float32 (F, H, W, 4) in 0..1."""
    height, width = shape
    mirror = -1.0 if SUBJECTS[subject].faces_left and rightward else 1.0
    pyramid = sprite_pyramid(subject)
    layers = np.empty((len(path.x), height, width, 4), np.uint8)
    for k in range(len(path.x)):
        side = path.side[k] * height
        level = int(np.clip(math.log2(pyramid[0].width / side) - 0.35 + 0.5, 0, len(pyramid) - 1))
        picture = pyramid[level]
        zoom, centre = picture.width / side, picture.width / 2
        cos, sin = math.cos(math.radians(path.angle[k])), math.sin(math.radians(path.angle[k]))
        a, b = zoom * cos * mirror, zoom * sin * mirror
        d, e = -zoom * sin / path.squash[k], zoom * cos / path.squash[k]
        cx, cy = path.x[k] * height, path.y[k] * height + (1 - path.squash[k]) * side / 2
        matrix = (a, b, centre - a * cx - b * cy, d, e, centre - d * cx - e * cy)
        layers[k] = np.asarray(
            picture.transform(
                (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
            )
        )
    return layers.astype(np.float32) / np.float32(255)
