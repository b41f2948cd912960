"""Two runs as one file: side by side, one pixel column over time, and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from demo.history import Entry
from demo.sheets import to_csv
from demo.sweeps import motion_of, settings_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAP = 4
SLICE_PIXELS = 8  # the width of one frame in a picture of slices


def write_pair(a: Entry, b: Entry, path: Path, column: float = 0.5) -> Path:
    """Write what `path`'s ending asks for: .mp4, .png or .csv; `column` is a share of the width.

    Raises MediaError when a clip cannot be read or the file not be written.
    """
    from latte_core import read_clip, write_clip, write_still

    assert a.clip is not None and b.clip is not None
    first, second = read_clip(a.clip), read_clip(b.clip)
    recipe = {**a.recipe, "compared_with": b.recipe}
    if path.suffix == ".mp4":
        return write_clip(side_by_side(first, second), path, a.fps, recipe)
    if path.suffix == ".png":
        slices = [slice_over_time(frames, column) for frames in (first, second)]
        return write_still(_stack(slices), path, recipe)
    rows = [_row("A", a, first), _row("B", b, second)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    path.write_text(to_csv([{k: row.get(k, "") for k in keys} for row in rows]), encoding="utf-8")
    return path


def slice_over_time(frames: NDArray[np.uint8], column: float) -> NDArray[np.uint8]:
    """One pixel column of each frame, in order: frames (F, H, W, 3) -> (H, F * SLICE_PIXELS, 3)."""
    width = frames.shape[2]
    x = min(width - 1, max(0, int(column * width)))
    return frames[:, :, x].transpose(1, 0, 2).repeat(SLICE_PIXELS, axis=1)


def side_by_side(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two clips beside each other, as high as the first, as long as the longer; even sides."""
    from PIL import Image

    height = a.shape[1] - a.shape[1] % 2
    sized = []
    for frames in (a, b):
        width = round(frames.shape[2] * height / frames.shape[1] / 2) * 2
        images = [Image.fromarray(frame).resize((width, height)) for frame in frames]
        sized.append(np.stack([np.asarray(image) for image in images]))
    length = max(map(len, sized))
    left, right = (part[np.minimum(np.arange(length), len(part) - 1)] for part in sized)
    gap = np.zeros((length, height, GAP, 3), np.uint8)
    return np.concatenate([left, gap, right], axis=2)


def _stack(slices: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures below each other, padded to the same width."""
    width = max(picture.shape[1] for picture in slices)
    padded = [np.pad(p, ((0, GAP), (0, width - p.shape[1]), (0, 0))) for p in slices]
    return np.concatenate(padded)


def _row(name: str, entry: Entry, frames: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "run": name,
        "prompt": entry.recipe.get("prompt", ""),
        **settings_of(entry.recipe),
        "frames": entry.frames,
        "width": entry.width,
        "height": entry.height,
        "fps": entry.fps,
        **{stage: round(seconds, 4) for stage, seconds in entry.timings.items()},
        **{f"memory_{when}_gib": round(gib, 4) for when, gib in entry.memory_gib.items()},
        "motion": round(motion_of(frames), 4),
    }
