"""How the subjects of the world move: the path of one through a clip, named by its motion.

Lengths are fractions of the height, so that a clip looks the same at every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latte_core.data.scenes import SCENES, Rng, Times
from latte_core.data.sprites import SUBJECTS

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
SIZES: dict[str, float] = {"small": 0.35, "": 0.48, "big": 0.64}
HALF = 0.25  # of the width: where one of two subjects stands, the other as far from the far edge
HALF_REACH = 0.20  # of the width: how far one of two goes sideways, so that they hardly meet
HALF_SIDE = 0.42  # side length of one of two
THIN = 0.25  # of its width: what is seen of a subject that turns its edge to the viewer


@dataclass(frozen=True)
class Mover:
    """One subject and what it does. `side` is -1 or 1 where it shares the picture, 0 where not."""

    subject: str
    motion: str
    size: str = ""
    side: int = 0


@dataclass
class Path:
    """Where a subject is in each frame: centre (x, y), side length, angle, all (F,).

    Lengths are fractions of the height; the angle is in degrees; squash is the height's factor and
    turn the width's, which is negative where the subject shows its other side.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    side: NDArray[np.float64]
    angle: NDArray[np.float64]
    squash: NDArray[np.float64]
    turn: NDArray[np.float64]

    def at(self, frames: Sequence[int]) -> Path:
        """Return the path at some frames only."""
        k = list(frames)
        columns = (self.x, self.y, self.side, self.angle, self.squash, self.turn)
        return Path(*(column[k] for column in columns))


def ground_of(scene: str) -> float | None:
    """Where the ground lies, as a fraction of the height; None where nothing stands."""
    return 0.84 if scene == "plain" else SCENES[scene].ground


def trace(mover: Mover, scene: str, count: int, aspect: float, rng: Rng) -> Path:
    """Lay a subject's path through `count` frames of a picture `aspect` heights wide."""
    t = np.linspace(0, 1, count)
    base = (HALF_SIDE if mover.side else SIZES[mover.size]) * rng.uniform(0.94, 1.06)
    ground = ground_of(scene)
    stands = ground is not None and SUBJECTS[mover.subject].kind in ("walk", "drive", "thing")
    rest = ground - base / 2 + 0.03 if stands and ground else rng.uniform(0.4, 0.56)
    flat = np.ones(count)
    x = flat * (aspect / 2 + rng.uniform(-0.12, 0.12))
    path = Path(x, flat * rest, flat * base, 0 * t, flat.copy(), flat.copy())
    _MOVES[mover.motion](path, t, rng, aspect)
    if mover.side:
        _keep_to_its_half(path, mover, aspect, rng)
    _add_gait(path, mover)
    return path


def _keep_to_its_half(path: Path, mover: Mover, aspect: float, rng: Rng) -> None:
    """Move a path that was laid through the whole picture to the middle of one half of it."""
    away = path.x - aspect / 2
    reach = np.ptp(away)
    if reach > HALF_REACH * aspect:
        away *= HALF_REACH * aspect / reach
    away -= (away[0] + away[-1]) / 2
    centre = 0.5 + mover.side * (0.5 - HALF) + rng.uniform(-0.02, 0.02)
    path.x[:] = aspect * centre + away


def _add_gait(path: Path, mover: Mover) -> None:
    """Let walkers bob and sway as they go sideways."""
    if SUBJECTS[mover.subject].kind == "walk" and mover.motion in ("left", "right"):
        swing = np.sin(np.linspace(0, 4 * np.pi, len(path.x)))
        path.y -= 0.012 * np.abs(swing)
        path.angle += 3 * swing


def faces_right(path: Path) -> bool:
    """Face the way that the path goes; without a way, left, as the artwork is drawn.

    What no caption tells does not vary: a small model would draw both ways at once.
    """
    return float(path.x[-1] - path.x[0]) > 0.1


def _sideways(path: Path, t: Times, rng: Rng, aspect: float, sign: float) -> None:
    reach = aspect * rng.uniform(0.44, 0.6)
    path.x[:] = aspect / 2 + sign * reach * (t - 0.5) + rng.uniform(-0.05, 0.05)


def _left(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    _sideways(path, t, rng, aspect, -1)


def _right(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    _sideways(path, t, rng, aspect, 1)


def _up(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    path.y[:] = 0.75 - 0.5 * t


def _down(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    path.y[:] = 0.25 + 0.5 * t


def _bounce(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    hop = np.abs(np.sin(np.pi * (2 * t + rng.uniform(0, 0.2))))
    path.y[:] = np.minimum(path.y, 0.66) + 0.08 - 0.3 * hop
    path.squash[:] = 1 - 0.18 * (hop < 0.25)


def _spin(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    """Turn once round the upright axis, as a coin does: the subject stays what it is throughout.

    Turned in its own plane it would be another picture in every frame, too many for a small model.
    """
    wide = np.cos(2 * np.pi * t)
    path.turn[:] = np.where(wide < 0, -1, 1) * np.maximum(np.abs(wide), THIN)
    path.y[:] = 0.5


def _grow(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    path.side *= 0.5 + 0.85 * t
    path.y[:] = 0.52


def _shrink(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    path.side *= 1.35 - 0.85 * t
    path.y[:] = 0.52


def _swing(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    path.angle[:] = 26 * np.sin(3 * np.pi * t)
    path.x += 0.1 * np.sin(3 * np.pi * t)


def _circle(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    phase = rng.uniform(0, 2 * np.pi)
    path.x[:] = aspect / 2 + 0.24 * np.cos(2 * np.pi * t + phase)
    path.y[:] = 0.5 + 0.2 * np.sin(2 * np.pi * t + phase)


def _still(path: Path, t: Times, rng: Rng, aspect: float) -> None:
    """Leave the path as it is."""


def _zigzag(path: Path, t: Times, rng: Rng, aspect: float) -> None:
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
