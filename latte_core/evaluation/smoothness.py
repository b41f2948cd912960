"""Temporal smoothness: how much a clip changes from frame to frame, and whether it has a seam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FENCE = 3.0  # interquartile ranges above the upper quartile; Tukey's "far out"


def frame_differences(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference of each frame to the next: uint8 (F, H, W, 3) -> (F - 1,), 0..255.

    Number k belongs to the border between frame k and frame k + 1.
    """
    return np.abs(np.diff(frames.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))


def normal_range(differences: NDArray[np.float64]) -> float:
    """The largest difference that is no outlier among these: Tukey's outer fence."""
    low, high = np.quantile(differences, (0.25, 0.75))
    return float(high + FENCE * (high - low))


def seam(frames: NDArray[np.uint8], borders: Sequence[int]) -> float:
    """The largest difference at a border, as a share of the normal range of all others.

    A border b lies between frames b - 1 and b. At most 1 if no seam is to be seen. inf where
    nothing else moves.
    """
    differences = frame_differences(frames)
    at = [border - 1 for border in borders]
    limit = normal_range(np.delete(differences, at))
    largest = float(differences[at].max())
    return largest / limit if limit else (np.inf if largest else 0.0)
