"""Latents to tokens and back. Tokens are (B, F, N, D) from here to the end of the network."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from latte_core.errors import ShapeError
from latte_core.model.config import ModelConfig


class Grid(NamedTuple):
    """Patches of one frame: `h` rows and `w` columns, so N = h * w."""

    h: int
    w: int


class PatchEmbed(nn.Module):
    """Cut latents into patches of (patch_frames, patch_size, patch_size) and project each.

    One linear layer on flattened patches: a convolution whose kernel equals its stride, in the form
    that is fastest on every device. A patch is flattened as (C, pt, p, p), like such a kernel.
    Source: arXiv 2401.03048, section 3.3.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size = config.patch_size
        self.frames = config.patch_frames
        width = config.in_channels * config.patch_frames * config.patch_size**2
        self.proj = nn.Linear(width, config.hidden_size)

    def grid(self, latents: Tensor) -> Grid:
        """The grid of patches of latents (B, C, F, h, w)."""
        return Grid(latents.shape[3] // self.size, latents.shape[4] // self.size)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F, h, w) -> tokens (B, F/pt, N, D)."""
        x = latents.unflatten(4, (-1, self.size)).unflatten(3, (-1, self.size))
        x = x.unflatten(2, (-1, self.frames))  # (B, C, F/pt, pt, h/p, p, w/p, p)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7)  # (B, F/pt, h/p, w/p, C, pt, p, p)
        return self.proj(x.flatten(4).flatten(2, 3))


def unpatch(x: Tensor, grid: Grid, patch_size: int) -> Tensor:
    """Put patches back in place.

    x (B, F, N, p*p*C), the channel fastest -> (B, C, F, h*p, w*p).
    Raises ShapeError if N is not grid.h * grid.w.
    """
    if x.shape[2] != grid.h * grid.w:
        raise ShapeError(f"{x.shape[2]} tokens do not fill a grid of {grid.h} x {grid.w} patches.")
    x = x.unflatten(3, (patch_size, patch_size, -1)).unflatten(2, (grid.h, grid.w))
    x = x.permute(0, 6, 1, 2, 4, 3, 5)  # (B, F, h, w, p, p, C) -> (B, C, F, h, p, w, p)
    return x.flatten(5).flatten(3, 4)


class FrameUpsample(nn.ConvTranspose3d):
    """Undo the compression patch in time: (B, C, F/pt, H, W) -> (B, C, F, H, W).

    Source: arXiv 2401.03048, section 3.3: a 3-D transposed convolution after the decoder.
    """

    def __init__(self, config: ModelConfig) -> None:
        kernel = (config.patch_frames, 1, 1)
        super().__init__(config.out_channels, config.out_channels, kernel, stride=kernel)
