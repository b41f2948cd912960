"""Where a token is: sin-cos tables for space and time, rotations for relative time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latte_core.model.config import ModelConfig
from latte_core.model.patches import Grid

BASE = 10000.0  # of every angle; source: Vaswani et al. 2017, kept by MAE, DiT and Latte


def sincos(dim: int, positions: Tensor) -> Tensor:
    """Sines then cosines of positions (M,) at dim/2 frequencies -> (M, dim), float32.

    Angles are taken in float64 where the device has it, as in the tables of the released models.
    """
    dtype = torch.float32 if positions.device.type == "mps" else torch.float64
    omega = torch.arange(dim // 2, device=positions.device, dtype=dtype) / (dim / 2.0)
    angles = torch.outer(positions.to(dtype), 1.0 / BASE**omega)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def space_table(config: ModelConfig, grid: Grid, device: torch.device) -> Tensor:
    """Positions in a frame (1, 1, N, D): the first half of D tells the column, the second the row.

    Coordinates are scaled to the grid that the model was made for, so another size covers the same
    span, and a non-square one each side on its own.
    """
    base = config.sample_size // config.patch_size

    def coordinates(count: int) -> Tensor:
        steps = torch.arange(count, device=device, dtype=torch.float32)
        return steps / (count / base) / config.interpolation

    rows = coordinates(grid.h).repeat_interleave(grid.w)
    columns = coordinates(grid.w).repeat(grid.h)
    half = config.hidden_size // 2
    return torch.cat([sincos(half, columns), sincos(half, rows)], dim=1)[None, None]


def time_table(config: ModelConfig, device: torch.device) -> Tensor:
    """Positions of the token frames (1, F, 1, D)."""
    frames = torch.arange(config.num_frames // config.patch_frames, device=device)
    return sincos(config.hidden_size, frames)[None, :, None]


class Positions(nn.Module):
    """The absolute tables. They follow the model's device and dtype but are not in its state."""

    space: Tensor
    time: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # On the CPU also inside `torch.device("meta")`: tables are computed, never loaded.
        cpu = torch.device("cpu")
        side = config.sample_size // config.patch_size
        self.grid = Grid(side, side)
        self.register_buffer("space", space_table(config, self.grid, cpu), persistent=False)
        self.register_buffer("time", time_table(config, cpu), persistent=False)

    def add_space(self, x: Tensor, grid: Grid) -> Tensor:
        """Add positions in the frame to x (B, F, N, D); the table is made anew for another grid."""
        if grid == self.grid:
            return x + self.space.to(x.dtype)
        return x + space_table(self.config, grid, x.device).to(x.dtype)

    def add_time(self, x: Tensor, frame_positions: Tensor | None = None) -> Tensor:
        """Add positions in time to x (B, F or F + E, N, D); condition tokens behind get none.

        frame_positions (F,) may lie between the trained ones 0, 1, 2 ..., which are the default.
        """
        table = self.time
        if frame_positions is not None:
            table = sincos(self.config.hidden_size, frame_positions)[None, :, None]
        table = table.to(x.dtype)
        extra = x.shape[1] - table.shape[1]
        return x + F.pad(table, (0, 0, 0, 0, 0, extra))


def rope_table(head_dim: int, length: int, device: torch.device) -> Tensor:
    """Rotations for positions 0..length-1: cosines and sines (2, length, head_dim / 2)."""
    sines, cosines = sincos(head_dim, torch.arange(length, device=device)).chunk(2, dim=1)
    return torch.stack([cosines, sines])


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + d/2]) of x (..., length, d) by the angles of their position.

    Source: RoFormer, arXiv 2104.09864.
    """
    cos, sin = rope[:, : x.shape[-2]].to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
