"""The places of the world: still backgrounds drawn from a seed, and what moves in front of them.

An image here is float32 (H, W, 3) in 0..1. Lengths are fractions of the height, so that a scene
looks the same at every size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Image32 = NDArray[np.float32]
Rng = np.random.Generator
Times = NDArray[np.float64]
Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (214, 62, 60),
    "orange": (242, 152, 60),
    "yellow": (246, 214, 86),
    "green": (96, 186, 96),
    "blue": (84, 142, 228),
    "purple": (150, 104, 212),
    "pink": (246, 162, 198),
    "white": (238, 238, 240),
    "gray": (140, 144, 150),
    "black": (34, 35, 40),
    "teal": (70, 178, 176),
    "brown": (150, 108, 78),
}

ALOFT = (0.6, 0.85)  # of the width: where a sun or moon may hang


def _unit(colour: Colour) -> Image32:
    """A colour of 0..255 as float32 (3,) in 0..1."""
    return np.asarray(colour, np.float32) / np.float32(255)


@dataclass
class Canvas:
    """A background under construction: `pixels` (H, W, 3) in 0..1, drawn with `rng`."""

    pixels: Image32
    rng: Rng
    night: bool = False

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    def grid(self) -> tuple[Image32, Image32]:
        """Pixel centres (y, x) as fractions of the height; shapes (H, 1) and (1, W)."""
        y = (np.arange(self.height)[:, None] + 0.5) / self.height
        x = (np.arange(self.width)[None] + 0.5) / self.height
        return y.astype(np.float32), x.astype(np.float32)

    def near(self, colour: Colour, spread: float = 8.0) -> Colour:
        """Return a colour close to the given one, so that no two scenes are quite alike."""
        r, g, b = np.clip(np.array(colour) + self.rng.normal(size=3) * spread, 0, 255)
        return float(r), float(g), float(b)

    def paint(self, mask: Image32, colour: Colour) -> None:
        """Blend a colour over the picture where mask (H, W) is above 0."""
        self.pixels += (_unit(colour) - self.pixels) * mask[..., None]

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Fill the picture from top to bottom."""
        t = np.linspace(0, 1, self.height, dtype=np.float32)[:, None, None]
        self.pixels[:] = (1 - t) * _unit(top) + t * _unit(bottom)

    def disc(self, x: float, y: float, radius: float, colour: Colour, soft: float = 0.012) -> None:
        """Draw a disc whose rim fades over `soft`."""
        gy, gx = self.grid()
        distance = np.sqrt((gx - x) ** 2 + (gy - y) ** 2)
        self.paint(np.clip((radius - distance) / soft + 0.5, 0, 1), colour)

    def hills(self, level: float, height: float, top: Colour, bottom: Colour) -> None:
        """Draw rolling ground whose crest lies about `level` of the height."""
        gy, gx = self.grid()
        crest = np.full_like(gx, level)
        for k in (1, 2):
            wave = np.sin(2 * np.pi * (gx * k * self.rng.uniform(0.6, 1.3) + self.rng.random()))
            crest = crest + height / k * wave.astype(np.float32)
        t = np.clip((gy - crest) / 0.5, 0, 1)[..., None]
        ground = (1 - t) * _unit(top) + t * _unit(bottom)
        self.pixels += (ground - self.pixels) * np.clip((gy - crest) * self.height, 0, 1)[..., None]

    def clouds(self, count: int, lowest: float, colour: Colour = (255, 255, 255)) -> None:
        """Draw soft clouds, each a heap of blurred ellipses, above `lowest`."""
        gy, gx = self.grid()
        mask = np.zeros((self.height, self.width), np.float32)
        for _ in range(count):
            cx, cy = self.rng.uniform(0, self.width / self.height), self.rng.uniform(0.05, lowest)
            size = self.rng.uniform(0.06, 0.11)
            for _ in range(4):
                dx, dy = self.rng.normal(size=2) * (1.1, 0.2) * size
                a, b = size * self.rng.uniform(0.8, 1.4), size * self.rng.uniform(0.45, 0.75)
                d = ((gx - cx - dx) / a) ** 2 + ((gy - cy - dy) / b) ** 2
                mask = np.maximum(mask, np.clip(1.6 * (1 - d), 0, 1))
        self.paint(mask * 0.88, colour)

    def aloft(self) -> float:
        """Where a sun or moon hangs, in heights: to the right, since no caption says where."""
        return float(self.rng.uniform(*ALOFT)) * self.width / self.height

    def moon(self, lowest: float) -> None:
        """Hang a full moon above `lowest`."""
        self.disc(self.aloft(), self.rng.uniform(0.12, lowest), 0.08, (250, 246, 220))

    def stars(self, count: int, lowest: float) -> None:
        """Scatter stars above `lowest`, each a small soft point."""
        gy, gx = self.grid()
        for _ in range(int(count * self.width / self.height)):
            x, y = self.rng.uniform(0, self.width / self.height), self.rng.uniform(0, lowest)
            radius = self.rng.uniform(0.010, 0.016)
            d = ((gx - x) ** 2 + (gy - y) ** 2) / radius**2
            self.pixels += np.exp(-d)[..., None].astype(np.float32) * 0.8
        np.clip(self.pixels, 0, 1, out=self.pixels)

    def clouded(self, cell: float) -> Image32:
        """Smooth random field (H, W) in about 0..1 with features of size `cell`."""
        shape = (max(2, round(1 / cell)), max(2, round(self.width / self.height / cell)))
        coarse = Image.fromarray(self.rng.random(shape, np.float32))
        return np.asarray(coarse.resize((self.width, self.height), Image.Resampling.BICUBIC))


def _plain(c: Canvas, colour: str) -> None:
    base = np.array(c.near(COLOURS[colour], 4))
    c.gradient(tuple(np.minimum(255, base * 1.04 + 4)), tuple(base * 0.95))


def _sky(c: Canvas) -> None:
    c.gradient(c.near((74, 148, 232)), c.near((190, 226, 250)))
    c.clouds(int(c.rng.integers(2, 5)), 0.9)


def _sunset(c: Canvas) -> None:
    c.gradient(c.near((92, 64, 134)), c.near((255, 170, 96)))
    c.disc(c.aloft(), 0.6, 0.13, (255, 226, 150))
    c.hills(0.74, 0.03, c.near((92, 58, 84)), c.near((50, 32, 58)))


def _night(c: Canvas) -> None:
    c.gradient(c.near((12, 16, 46), 4), c.near((50, 60, 112), 4))
    c.stars(8, 0.6)
    c.moon(0.26)
    c.hills(0.74, 0.035, c.near((30, 46, 68), 4), c.near((12, 20, 38), 4))


def _meadow(c: Canvas) -> None:
    c.gradient(c.near((104, 176, 240)), c.near((214, 238, 252)))
    c.clouds(2, 0.32)
    c.hills(0.55, 0.05, c.near((136, 196, 120)), c.near((110, 176, 98)))
    c.hills(0.68, 0.03, c.near((112, 190, 76)), c.near((64, 142, 52)))


def _sea(c: Canvas) -> None:
    c.gradient(c.near((120, 190, 244)), c.near((226, 242, 252)))
    c.clouds(2, 0.35)


def _desert(c: Canvas) -> None:
    c.gradient(c.near((110, 182, 236)), c.near((252, 232, 190)))
    if not c.night:
        c.disc(c.aloft(), 0.17, 0.075, (255, 244, 190), 0.03)
    c.hills(0.6, 0.05, c.near((236, 190, 120)), c.near((214, 160, 92)))
    c.hills(0.72, 0.04, c.near((244, 204, 132)), c.near((222, 168, 94)))


def _snow(c: Canvas) -> None:
    c.gradient(c.near((150, 180, 214)), c.near((226, 236, 246)))
    c.hills(0.58, 0.07, c.near((200, 216, 234)), c.near((220, 232, 244)))
    c.hills(0.72, 0.03, c.near((244, 248, 252), 3), c.near((214, 226, 242), 3))


def _city(c: Canvas) -> None:
    c.gradient(c.near((24, 22, 60), 4), c.near((120, 70, 130), 6))
    h, street = c.height, int(c.height * 0.82)
    x = 0
    while x < c.width:
        width, top = int(c.rng.uniform(0.1, 0.2) * h) + 1, int(c.rng.uniform(0.24, 0.55) * h)
        house = c.pixels[top:street, x : x + width]
        house[:] = _unit(c.near((32, 32, 60), 5))
        pitch, glass = max(3, h // 16), max(1, h // 42)
        lit = c.rng.random((house.shape[0] // pitch + 1, house.shape[1] // pitch + 1)) < 0.5
        for row, column in np.argwhere(lit):
            y0, x0 = row * pitch + 1, column * pitch + 1
            house[y0 : y0 + glass, x0 : x0 + glass] = (1, 0.86, 0.5)
        x += width
    c.pixels[street:] = _unit((46, 46, 60))


def _space(c: Canvas) -> None:
    c.gradient(c.near((10, 8, 26), 3), c.near((26, 14, 48), 4))
    c.paint(np.clip(c.clouded(0.25) - 0.45, 0, 1) * 0.5, c.near((110, 60, 170), 20))
    c.stars(24, 1.0)
    planet = COLOURS[str(c.rng.choice(["red", "orange", "teal", "blue", "brown"]))]
    x, y = c.rng.uniform(0.1, 0.9) * c.width / c.height, float(c.rng.choice([0.16, 0.84]))
    c.disc(x, y, c.rng.uniform(0.1, 0.17), c.near(planet))


def _underwater(c: Canvas) -> None:
    c.gradient(c.near((76, 194, 222)), c.near((10, 64, 124)))
    c.hills(0.88, 0.025, c.near((214, 190, 140)), c.near((150, 130, 100)))
    gy, gx = c.grid()
    for _ in range(4):
        x, top = c.rng.uniform(0, c.width / c.height), c.rng.uniform(0.62, 0.8)
        sway = x + 0.015 * np.sin(gy * 28 + x * 9)
        blade = np.clip(1.5 - np.abs(gx - sway) / 0.012, 0, 1) * (gy > top) * (gy < 0.92)
        c.paint(blade.astype(np.float32), c.near((40, 140, 84)))


def _road(c: Canvas) -> None:
    c.gradient(c.near((130, 190, 242)), c.near((224, 238, 248)))
    c.clouds(2, 0.3)
    c.hills(0.6, 0.04, c.near((120, 184, 110)), c.near((90, 150, 84)))
    gy, gx = c.grid()
    c.paint(np.clip((gy - 0.72) * c.height, 0, 1) * np.ones_like(gx), (92, 94, 102))
    dash = (np.abs(gy - 0.86) < 0.014) & ((gx + c.rng.random()) % 0.25 < 0.12)
    c.paint(dash.astype(np.float32), (242, 230, 180))


@dataclass(frozen=True)
class Scene:
    """One place: how it is painted and where its ground lies (None: nothing stands here).

    `nights` says that it is seen by night too, `still` that nothing in it moves by itself, so that
    a camera can pan over it.
    """

    paint: Callable[[Canvas], None]
    ground: float | None
    phrases: tuple[str, ...]
    nights: bool = False
    still: bool = True


SCENES: dict[str, Scene] = {
    "sky": Scene(
        _sky, None, ("in the blue sky", "in the sky", "among the clouds", "over the clouds")
    ),
    "sunset": Scene(_sunset, 0.88, ("at sunset", "in front of a sunset")),
    "night": Scene(_night, 0.88, ("at night", "under the stars")),
    "meadow": Scene(
        _meadow,
        0.88,
        ("on green grass", "over grass", "over the grass", "in a meadow", "on a green field"),
        nights=True,
    ),
    "sea": Scene(_sea, None, ("over the sea", "by the ocean"), still=False),
    "desert": Scene(
        _desert, 0.88, ("in the desert", "over the desert", "on sand dunes"), nights=True
    ),
    "snow": Scene(_snow, 0.88, ("in the snow", "on a snowy hill"), nights=True, still=False),
    "city": Scene(_city, 0.9, ("in a city at night", "in front of a skyline")),
    "space": Scene(_space, None, ("in space", "in outer space")),
    "underwater": Scene(_underwater, None, ("under water", "deep in the ocean"), still=False),
    "road": Scene(_road, 0.86, ("on a road", "along the street"), nights=True),
}


def paint_background(
    scene: str, colour: str, shape: tuple[int, int], rng: Rng, night: bool = False
) -> Image32:
    """Paint a still background.

    `scene` is a key of SCENES or "plain", which uses `colour`; shape is (H, W); `night` shows a
    place of the day under moon and stars. Returns float32 (H, W, 3) in 0..1.
    """
    canvas = Canvas(np.zeros((*shape, 3), np.float32), rng, night)
    if scene == "plain":
        _plain(canvas, colour)
    else:
        SCENES[scene].paint(canvas)
    if night:
        _let_night_fall(canvas)
    return canvas.pixels


def _let_night_fall(c: Canvas) -> None:
    """Darken a place of the day to moonlight, and light moon and stars over it."""
    c.pixels *= np.array((0.30, 0.31, 0.46), np.float32)
    c.stars(8, 0.45)
    c.moon(0.24)


def paint_waves(frames: Image32, times: Times, phase: float) -> None:
    """Let the sea roll over the lower part of frames (F, H, W, 3) at `times` (F,), in place."""
    _, h, w, _ = frames.shape
    top = int(h * 0.62)
    depth = ((np.arange(h - top) + 0.5) / (h - top))[None, :, None]
    x = (np.arange(w) / h)[None, None]
    t = times[:, None, None]
    swell = 0.5 + 0.5 * np.sin(
        2 * np.pi * (x * (3 - 1.6 * depth) - 1.5 * t) + 18 * np.sqrt(depth) + phase
    )
    mix = (swell * (0.3 + 0.25 * depth) + 0.12)[..., None]
    deep, light = np.array((26, 104, 176)) / 255, np.array((92, 180, 222)) / 255
    frames[:, top:] = deep + (light - deep) * mix


def paint_drift(frames: Image32, times: Times, rng: Rng, falling: bool) -> None:
    """Let snow fall, or bubbles rise, in frames (F, H, W, 3) at `times` (F,), in place."""
    _, h, w, _ = frames.shape
    gy = ((np.arange(h) + 0.5) / h)[None, :, None]
    gx = ((np.arange(w) + 0.5) / h)[None, None]
    t = times[:, None, None]
    for _ in range(20):
        x, y, radius = rng.uniform(0, w / h), rng.random(), rng.uniform(0.006, 0.014)
        cy = (y + (0.45 if falling else -0.45) * t) % 1
        cx = x + 0.02 * np.sin(6 * t + y * 9)
        glow = np.exp(-((gx - cx) ** 2 + (gy - cy) ** 2) / radius**2)[..., None]
        frames += (np.float32(1.0) - frames) * glow.astype(np.float32) * 0.85
