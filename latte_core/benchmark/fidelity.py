"""How near one clip is to another: PSNR, SSIM, and a distance of edges that needs no weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Frames = NDArray[np.uint8]

# Source of both constants and of the window: Wang et al. 2004, "Image quality assessment".
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
SSIM_SIGMA, SSIM_WINDOW = 1.5, 11
# Source: Xue et al. 2014, "Gradient magnitude similarity deviation", for pictures in 0..255.
GMSD_C = 170 / 255**2


@dataclass(frozen=True)
class Nearness:
    """A clip beside the exact one.

    psnr in dB, infinite for equal clips; ssim 1 for equal ones; gmsd, the gradient magnitude
    similarity deviation, 0 for equal ones.
    """

    psnr: float
    ssim: float
    gmsd: float


def nearness(made: Frames, exact: Frames) -> Nearness:
    """Compare two clips uint8 (F, H, W, 3). SSIM and GMSD are means over the frames."""
    ours, theirs = (torch.from_numpy(x).float().permute(0, 3, 1, 2) / 255 for x in (made, exact))
    return Nearness(psnr(ours, theirs), ssim(ours, theirs), gmsd(ours, theirs))


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal to noise ratio of values in 0..1, in dB."""
    error = float((x.double() - y.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(x: Tensor, y: Tensor) -> float:
    """Structural similarity of pictures (N, C, H, W) in 0..1, Gaussian window of 11.

    Borders are mirrored and count, as in torchmetrics.
    """
    at = torch.arange(SSIM_WINDOW, dtype=x.dtype) - SSIM_WINDOW // 2
    line = torch.exp(-(at**2) / (2 * SSIM_SIGMA**2))
    window = torch.outer(line, line) / line.sum() ** 2

    def blurred(z: Tensor) -> Tensor:
        padded = F.pad(z.flatten(0, 1)[:, None], 4 * (SSIM_WINDOW // 2,), mode="reflect")
        return F.conv2d(padded, window[None, None])

    mean_x, mean_y = blurred(x), blurred(y)
    spread_x = blurred(x * x) - mean_x**2
    spread_y = blurred(y * y) - mean_y**2
    shared = blurred(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + SSIM_C1) * (2 * shared + SSIM_C2)
    return float(
        (likeness / ((mean_x**2 + mean_y**2 + SSIM_C1) * (spread_x + spread_y + SSIM_C2))).mean()
    )


def gmsd(x: Tensor, y: Tensor) -> float:
    """Gradient magnitude similarity deviation of pictures (N, 3, H, W) in 0..1.

    Luma is halved in size, its Prewitt gradients are compared place by place, and the deviation
    of that map says how much structure is damaged: it follows what people see better than SSIM.
    """
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype)
    edge_x, edge_y = (_edges(torch.einsum("nchw,c->nhw", z, luma)) for z in (x, y))
    likeness = (2 * edge_x * edge_y + GMSD_C) / (edge_x**2 + edge_y**2 + GMSD_C)
    return float(likeness.flatten(1).std(dim=1, correction=0).mean())


def _edges(luma: Tensor) -> Tensor:
    """Gradient magnitudes (N, h, w) of luma (N, H, W) at half its size."""
    half = F.avg_pool2d(luma[:, None], 2)
    line = torch.tensor([1.0, 0.0, -1.0], dtype=luma.dtype).expand(3, 3) / 3
    kernels = torch.stack([line, line.T])[:, None]
    return F.conv2d(half, kernels, padding=1).square().sum(dim=1).sqrt()
