"""Classifier-free guidance: which prompts the model sees, and how its halves are joined."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latte_core.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Conditions:
    """What every step reads besides the latents.

    embeds (2, L, Ct), the negative prompt first, or (1, L, Ct) without guidance. mask (2, L)
    where the two differ in length, else None.
    """

    embeds: Tensor
    mask: Tensor | None
    guidance_scale: float

    @property
    def halves(self) -> int:
        """Rows of the model's batch."""
        return int(self.embeds.shape[0])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Conditions:
        """The same on another device, in another dtype."""
        mask = None if self.mask is None else self.mask.to(device)
        return Conditions(self.embeds.to(device, dtype), mask, self.guidance_scale)


def pair_prompts(prompt: Tensor, negative: Tensor | None, guidance_scale: float) -> Conditions:
    """Join a prompt (1, n, Ct) and a negative prompt (1, m, Ct), each at its own full length.

    Where the lengths differ, the shorter is padded behind a mask. `negative` is None without
    guidance.
    """
    if negative is None:
        return Conditions(prompt, None, 1.0)
    lengths = [negative.shape[1], prompt.shape[1]]
    if lengths[0] == lengths[1]:
        return Conditions(torch.cat([negative, prompt]), None, guidance_scale)
    embeds = prompt.new_zeros(2, max(lengths), prompt.shape[2])
    mask = torch.zeros(2, max(lengths), dtype=torch.bool, device=prompt.device)
    for row, (part, length) in enumerate(zip((negative, prompt), lengths, strict=True)):
        embeds[row, :length] = part[0]
        mask[row, :length] = True
    return Conditions(embeds, mask, guidance_scale)


def guided(output: Tensor, conditions: Conditions, channels: int) -> Tensor:
    """Join the halves of a model's output: (2, Cout, F, h, w) -> (1, Cout, F, h, w).

    Only the first `channels` (the prediction) are guided; a learned variance is the prompt's
    own, because an extrapolated variance leaves its range. Without guidance nothing changes.
    """
    if output.shape[0] != conditions.halves:
        raise ShapeError(f"{output.shape[0]} outputs for {conditions.halves} prompts.")
    if conditions.halves == 1:
        return output
    negative, prompt = output.chunk(2)
    mean = negative[:, :channels]
    mean = mean + conditions.guidance_scale * (prompt[:, :channels] - mean)
    return torch.cat([mean, prompt[:, channels:]], dim=1)
