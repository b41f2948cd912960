"""Frames as uint8 arrays and as the float tensors that networks take."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_pixels(frames: NDArray[np.uint8]) -> Tensor:
    """Frames uint8 (..., H, W, 3) -> (..., 3, H, W) in -1..1."""
    return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1


def to_frames(pixels: Tensor) -> NDArray[np.uint8]:
    """Pixels (..., 3, H, W) in -1..1 -> uint8 (..., H, W, 3)."""
    levels = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.movedim(-3, -1).cpu().numpy()
