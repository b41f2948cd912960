"""Clips of the world as pictures: a scene, what moves in front of it, its shadow, the camera."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from latte_core.data.motions import Mover, Path, faces_right, ground_of, trace
from latte_core.data.scenes import Image32, Rng, Times, paint_background, paint_drift, paint_waves
from latte_core.data.sprites import SUBJECTS, sprite_pyramid
from latte_core.data.world import ClipSpec

PAN = 0.4  # of the width: how far the camera pans in a clip
RIM = 0.03  # of the height: how far the rim of shadow or glow round a subject reaches
SHADE, GLOW = 0.45, 0.35  # how strong that rim is where the ground is light, where it is dark
DARK, LIGHT = 0.25, 0.45  # mean of a pixel's channels below which it is dark, above which light


def render_clip(
    spec: ClipSpec,
    num_frames: int = 16,
    height: int = 64,
    width: int | None = None,
    only: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Draw a clip, or `only` some of its frames. Returns uint8 (F, H, W, 3)."""
    return render_covered(spec, num_frames, height, width, only)[0]


def render_covered(
    spec: ClipSpec,
    num_frames: int = 16,
    height: int = 64,
    width: int | None = None,
    only: Sequence[int] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """As `render_clip`, and how much of each pixel subjects cover: uint8 (F, H, W), 255 for all."""
    width = width or height
    rng, times = np.random.default_rng(spec.seed), np.linspace(0, 1, num_frames)
    shown = list(range(num_frames) if only is None else only)
    background = _background(spec, times[shown], (height, width), rng)
    shift = _pan(spec, times) * width / height
    paths = []
    for mover in spec.movers:
        path = trace(mover, spec.scene, num_frames, width / height, rng)
        rightward = faces_right(path)
        path.x += shift
        paths.append((mover, path.at(shown), rightward))
    phase = rng.uniform(0, 2 * np.pi)
    frames = _moving_scene(spec.scene, background, times[shown], phase, rng)
    cover = np.zeros(frames.shape[:3], np.float32)
    for mover, path, rightward in paths:
        _draw(frames, cover, mover, path, rightward, ground_of(spec.scene))
    return _to_levels(frames), _to_levels(cover)


def _to_levels(values: Image32) -> NDArray[np.uint8]:
    """0..1 as 0..255."""
    return np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)


def _pan(spec: ClipSpec, times: Times) -> Times:
    """How far the picture has moved against the camera, in widths, 0 in the middle of a clip."""
    sign = {"left": 1.0, "right": -1.0, "": 0.0}[spec.camera]
    return sign * PAN * (times - 0.5)


def _background(spec: ClipSpec, times: Times, shape: tuple[int, int], rng: Rng) -> Image32:
    """What stands behind at `times`: (F, H, W, 3), its columns between pixels blended."""
    height, width = shape
    wide = math.ceil(width * (1 + PAN)) + 1 if spec.camera else width
    still = paint_background(spec.scene, spec.colour, (height, wide), rng, spec.light == "night")
    if not spec.camera:
        return np.repeat(still[None], len(times), 0)
    frames = []
    for offset in (PAN / 2 - _pan(spec, times)) * width:
        first, part = int(offset), np.float32(offset % 1)
        here, next_ = still[:, first : first + width], still[:, first + 1 : first + 1 + width]
        frames.append(here + (next_ - here) * part)
    return np.stack(frames)


def _moving_scene(scene: str, frames: Image32, times: Times, phase: float, rng: Rng) -> Image32:
    """Let what moves in a scene by itself move, in place; the frames are returned."""
    if scene == "sea":
        paint_waves(frames, times, phase)
    elif scene in ("snow", "underwater"):
        paint_drift(frames, times, rng, falling=scene == "snow")
    return frames


def _draw(
    frames: Image32,
    cover: Image32,
    mover: Mover,
    path: Path,
    rightward: bool,
    ground: float | None,
) -> None:
    """Draw a subject along its path over frames (F, H, W, 3), with its shadow; in place.

    `cover` (F, H, W) grows by what the subject covers.
    """
    if ground is not None and SUBJECTS[mover.subject].kind != "swim":
        _cast_shadow(frames, path, ground)
    height, width = frames.shape[1:3]
    sprites = _place_sprites(mover.subject, path, (height, width), rightward)
    _set_off(frames, sprites[..., 3])
    frames *= 1 - sprites[..., 3:]
    frames += sprites[..., :3]
    np.maximum(cover, sprites[..., 3], out=cover)


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


def _set_off(frames: Image32, alpha: Image32) -> None:
    """Shade what lies close round a subject, so that its outline can be seen anywhere; in place.

    Light ground gets a soft shadow and dark ground a soft glow: a pale rabbit on pink, a penguin at
    night. `alpha` (F, H, W) is what the subject covers of frames (F, H, W, 3).
    """
    blur = ImageFilter.GaussianBlur(RIM * alpha.shape[1])
    for frame, cover in zip(frames, _to_levels(alpha), strict=True):
        near = np.asarray(Image.fromarray(cover).filter(blur), np.float32)[..., None] / 255
        light = np.clip((frame.mean(-1, keepdims=True) - DARK) / (LIGHT - DARK), 0, 1)
        frame *= 1 - SHADE * light * near
        frame += GLOW * (1 - light) * near * (1 - frame)


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
        zoom, wide = picture.width / side, abs(path.turn[k])
        if wide < 1:  # averaged, since sampling a narrow picture would skip columns
            columns = max(1, round(picture.width * wide))
            picture = picture.resize((columns, picture.height), Image.Resampling.BOX)
        across = math.copysign(picture.width / side / wide, path.turn[k] * mirror)
        centre, middle = picture.width / 2, picture.height / 2
        cos, sin = math.cos(math.radians(path.angle[k])), math.sin(math.radians(path.angle[k]))
        a, b = across * cos, across * sin
        d, e = -zoom * sin / path.squash[k], zoom * cos / path.squash[k]
        cx, cy = path.x[k] * height, path.y[k] * height + (1 - path.squash[k]) * side / 2
        matrix = (a, b, centre - a * cx - b * cy, d, e, middle - d * cx - e * cy)
        layers[k] = np.asarray(
            picture.transform(
                (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
            )
        )
    return layers.astype(np.float32) / np.float32(255)
