"""What tasks on the diffusion chain share: timesteps, attention kernels, samples to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from latte_core.diffusion.loss import DiffusionLoss
from latte_core.training.loop import Losses

Predict = Callable[[Tensor, Tensor], Tensor]

_ALL_BACKENDS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.MATH,
]


Timesteps = Literal["uniform", "middle", "noisy", "spread", "single"]
# Of each kind: the share drawn around a centre, that centre as a share of the chain, and the share
# from the noisiest part. A lone picture drowns in less noise, so its centre lies earlier.
SHARES: dict[Timesteps, tuple[float, float, float]] = {
    "uniform": (0.0, 0.5, 0.0),
    "middle": (0.5, 0.5, 0.0),
    "noisy": (0.0, 0.5, 0.7),
    "spread": (0.3, 0.5, 0.3),
    "single": (0.5, 0.35, 0.0),
}
NOISY = 0.7  # of the chain; beyond it the frames of a clip no longer show where a thing is


class Draws(NamedTuple):
    """How timesteps of a batch are drawn: its samples', and those of the stills behind each.

    With `image_timesteps` each of the `images` stills gets a timestep of its own; else stills share
    their clip's, as in the paper.
    """

    timesteps: Timesteps
    images: int = 0
    image_timesteps: Timesteps | None = None


def draw_timesteps(kind: Timesteps, count: int, generator: torch.Generator) -> Tensor:
    """Timesteps (B,) in 0..999.

    "uniform" as in the paper. "middle": half of them drawn towards the middle of the chain, where
    a clip's content is decided. "noisy": most of them where nothing but the prompt can tell how
    things move, which a clip's many frames otherwise give away. "spread": some of each. "single":
    half of them drawn towards a third of the chain, where the content of a lone picture is decided,
    which drowns in less noise than a clip does.
    """
    share = torch.rand(count, generator=generator)
    around, centre, noisy = SHARES[kind]
    if around or noisy:
        pick = torch.rand(count, generator=generator)
        shift = torch.logit(torch.tensor(centre))
        normal = torch.sigmoid(torch.randn(count, generator=generator) + shift)
        share = torch.where(pick < around, normal, share)
        late = NOISY + (1 - NOISY) * torch.rand(count, generator=generator)
        share = torch.where(pick > 1 - noisy, late, share)
    return (share * 1000).long().clamp(max=999)


def attention_kernels(attention: Literal["auto", "math"]) -> AbstractContextManager[None]:
    """Let torch choose kernels, or take "math" where fused ones are slow on short sequences.

    For bf16 on the CPU the model sees to that itself: `latte_core.model.attention.wants_products`.
    """
    return sdpa_kernel([SDPBackend.MATH] if attention == "math" else _ALL_BACKENDS)


def diffusion_losses(
    objective: DiffusionLoss,
    x0: Tensor,
    draws: Draws,
    generator: torch.Generator,
    forward: Predict,
    weights: Tensor | None = None,
) -> Losses:
    """Noise x0 (B, C, F+I, h, w), let `forward` denoise it, and compare: loss and its two terms.

    `forward` is given timesteps (B,), or (B, 1+I) where stills have their own. `weights`
    (B, F+I, h, w) say how much the error counts in a place.
    """
    noise = torch.randn(x0.shape, generator=generator).to(x0.device)
    timesteps, images, of_images = draws
    told = steps = draw_timesteps(timesteps, len(x0), generator)
    if of_images and images:
        own = draw_timesteps(of_images, len(x0) * images, generator)
        own = own.unflatten(0, (-1, images))
        told = torch.cat([steps[:, None], own], dim=1)
        steps = torch.cat([steps[:, None].expand(-1, x0.shape[2] - images), own], dim=1)
    told, steps = told.to(x0.device), steps.to(x0.device)
    output = forward(objective.add_noise(x0, noise, steps), told)
    terms = objective(output, x0, noise, steps, loss_mask=weights)
    figures = {"mse": float(terms.mse.detach().mean()), "vb": float(terms.vb.detach().mean())}
    return terms.total, figures


@torch.no_grad()
def sample_ddim(predict: Predict, noise: Tensor, objective: DiffusionLoss, steps: int) -> Tensor:
    """Latents (B, C, F, h, w) from noise of that shape, by DDIM on evenly spaced steps.

    `predict` maps latents and timesteps (B,) to the guided prediction (B, C, F, h, w). The engine
    samples better and in more ways; this is what the trainer can do without it.
    """
    x = noise
    grid = torch.linspace(999, 0, steps + 1).round().long().to(x.device)
    for now, then in pairwise(grid):
        time = now.expand(len(x))
        x0 = objective.predict_x0(predict(x, time), x, time)
        spread = _noise_of(objective, x, x0, now)
        x = objective.add_noise(x0, spread, then.expand(len(x))) if then > 0 else x0
    return x


def _noise_of(objective: DiffusionLoss, x: Tensor, x0: Tensor, step: Tensor) -> Tensor:
    """The noise that makes x out of x0 at a step."""
    one = step.expand(len(x))
    zeros = torch.zeros_like(x)
    signal = objective.add_noise(x0, zeros, one)
    spread = objective.add_noise(zeros, torch.ones_like(x), one)
    return (x - signal) / spread


def lay_out(rows: Sequence[NDArray[np.uint8]], columns: int, scale: int = 1) -> Image.Image:
    """A sheet of pictures (H, W, 3) of one size in so many columns, filled column by column."""
    cells = [*rows] + [np.zeros_like(rows[0])] * (-len(rows) % columns)
    per = math.ceil(len(cells) / columns)
    grid = [np.concatenate(cells[i * per : (i + 1) * per]) for i in range(columns)]
    sheet = Image.fromarray(np.concatenate(grid, axis=1))
    size = (sheet.width * scale, sheet.height * scale)
    return sheet.resize(size, Image.Resampling.NEAREST)
