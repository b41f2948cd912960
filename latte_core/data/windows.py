"""Which frames of a clip are read: window, spacing and mirroring, as each set's users published it.

All of it is counted in frames of the clip; nothing here touches a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Spacing = Literal["even", "spread"]


@dataclass(frozen=True)
class Windowing:
    """How frames are chosen from a clip, and whether the result is mirrored now and then.

    spacing: "even" takes every stride-th frame of the window. "spread" spreads the frames over
        the window from its first to its last frame and rounds down, as the original code does
        for FaceForensics and UCF101: 0, 3, .., 21, 25, .., 43, 47. A clip that is shorter than
        the window is then the window.
    published: whether windows start in 0..max(0, T - window - 1), as in the original code, where
        the window is num_frames * stride; otherwise every window that fits is drawn.
    longer: whether a clip must have more frames than the window (SkyTimelapse).
    flip: probability of mirroring a clip; single images are never mirrored.
    """

    spacing: Spacing = "even"
    published: bool = False
    longer: bool = False
    flip: float = 0.0

    def needed(self, num_frames: int, stride: int) -> int:
        """The least number of frames that a clip must have."""
        if self.longer:
            return num_frames * stride + 1
        return num_frames if self.spacing == "spread" else (num_frames - 1) * stride + 1

    def last_start(self, length: int, num_frames: int, stride: int) -> int:
        """The last frame that a window of a clip of `length` frames may start with."""
        if self.published:
            return max(0, length - num_frames * stride - 1)
        return length - self.needed(num_frames, stride)

    def frames(self, length: int, start: int, num_frames: int, stride: int) -> NDArray[np.int64]:
        """Numbers (num_frames,) of the window's frames, in order."""
        if self.spacing == "even":
            return start + stride * np.arange(num_frames)
        last = min(start + num_frames * stride, length) - 1
        return np.linspace(start, last, num_frames, dtype=np.int64)

    def draw(
        self, length: int, num_frames: int, stride: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw a window of a clip of `length` frames: frame numbers (num_frames,)."""
        start = int(rng.integers(self.last_start(length, num_frames, stride) + 1))
        return self.frames(length, start, num_frames, stride)


def draw_caption(count: int, rng: np.random.Generator) -> int | None:
    """One of a clip's `count` captions; the generator moves on alike however many there are."""
    choice = rng.random()
    return int(choice * count) if count else None


# Source: the data loaders of the code that came with arXiv 2401.03048, one for each set.
WINDOWINGS = {
    "folder": Windowing(),
    "faceforensics": Windowing("spread", published=True, flip=0.5),
    "skytimelapse": Windowing("even", published=True, longer=True),
    "taichi-hd": Windowing("even", published=True, flip=0.5),
    "ucf101": Windowing("spread", published=True, flip=0.5),
}
