"""Latents to small RGB pictures by a linear map.

Good enough to watch a video form, and thousands of times faster than the autoencoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latte_core.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latte_core.checkpoints import PreviewMap


def preview_frames(latents: Tensor, preview_map: PreviewMap) -> NDArray[np.uint8]:
    """Latents (C, F, h, w) -> uint8 (F, h, w, 3), one pixel a latent. NaN shows as black."""
    weight = torch.tensor(preview_map.weight, device=latents.device)
    bias = torch.tensor(preview_map.bias, device=latents.device)
    if latents.ndim != 4 or latents.shape[0] != weight.shape[0]:
        raise ShapeError(
            f"latents must be ({weight.shape[0]}, F, h, w), not {tuple(latents.shape)}."
        )
    colours = latents.float().permute(1, 2, 3, 0) @ weight + bias
    return (colours.nan_to_num(0) * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def fit_preview(latents: Tensor, pixels: NDArray[np.uint8]) -> PreviewMap:
    """The linear map that turns these latents into these pictures with the least squared error.

    latents (N, C, h, w), pixels uint8 (N, H, W, 3) with H and W multiples of h and w; every
    latent is compared with the mean colour of its own square.
    """
    from latte_core.checkpoints import PreviewMap

    count, channels, height, width = latents.shape
    if pixels.shape[0] != count or pixels.shape[1] % height or pixels.shape[2] % width:
        raise ShapeError(f"pixels {pixels.shape} do not fit latents {tuple(latents.shape)}.")
    squares = pixels.reshape(count, height, -1, width, pixels.shape[2] // width, 3)
    colours = squares.mean(axis=(2, 4), dtype=np.float64).reshape(-1, 3) / 255
    rows = latents.detach().double().permute(0, 2, 3, 1).reshape(-1, channels).cpu().numpy()
    inputs = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    solution = np.linalg.lstsq(inputs, colours, rcond=None)[0]
    rows_of_colours = [(float(r), float(g), float(b)) for r, g, b in solution]
    return PreviewMap(weight=tuple(rows_of_colours[:-1]), bias=rows_of_colours[-1])
