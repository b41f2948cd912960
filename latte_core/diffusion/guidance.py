"""Classifier-free guidance: what the model is told, and how its halves are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latte_core.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Conditions:
    """What every step reads besides the latents: two rows with guidance, else one.

    The first of two rows is what guidance leads away from, the negative prompt or "no class".
    A text model has embeds (rows, L, Ct), and a mask (2, L) where the two differ in length; with
    prompts of the stills' own, embeds are (rows, 1 + I, L, Ct) and the mask (rows, 1 + I, L). A
    class model has labels (rows, 1 + I), the clip's and each still's; an unconditional one has
    neither.
    """

    embeds: Tensor | None
    mask: Tensor | None
    guidance_scale: float
    labels: Tensor | None = None

    @property
    def halves(self) -> int:
        """Rows of the model's batch."""
        told = self.labels if self.embeds is None else self.embeds
        return 1 if told is None else int(told.shape[0])

    def row(self, index: int) -> Conditions:
        """One half alone: 0 is what guidance leads away from, -1 the prompt or the class.

        Prompts are cut to the longest of the half, so that a single one needs no mask.
        """
        rows = slice(index, None) if index < 0 else slice(index, index + 1)
        embeds, mask, labels = (
            None if told is None else told[rows] for told in (self.embeds, self.mask, self.labels)
        )
        if embeds is not None and mask is not None:
            longest = int(mask.sum(-1).max())
            embeds, mask = embeds[..., :longest, :], mask[..., :longest]
            mask = None if bool(mask.all()) else mask
        return Conditions(embeds, mask, 1.0, labels)

    def of_clip(self) -> Conditions:
        """What the clip alone is told: the rows of stills left out."""
        mask, embeds = self.mask, self.embeds
        return replace(
            self,
            embeds=embeds[:, :1] if embeds is not None and embeds.ndim == 4 else embeds,
            mask=mask[:, :1] if mask is not None and mask.ndim == 3 else mask,
            labels=None if self.labels is None else self.labels[:, :1],
        )

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Conditions:
        """The same on another device, embeddings in another dtype."""
        return replace(
            self,
            embeds=None if self.embeds is None else self.embeds.to(device, dtype),
            mask=None if self.mask is None else self.mask.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )


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


def join_prompts(pairs: Sequence[Conditions]) -> Conditions:
    """The clip's pair of prompts and each still's, side by side: embeds (rows, 1 + I, L, Ct).

    All pairs are made with the same guidance. Shorter ones are padded behind a mask
    (rows, 1 + I, L).
    """
    parts = [pair.embeds for pair in pairs if pair.embeds is not None]
    rows, _, width = parts[0].shape
    longest = max(part.shape[1] for part in parts)
    embeds = parts[0].new_zeros(rows, len(parts), longest, width)
    mask = torch.zeros(rows, len(parts), longest, dtype=torch.bool, device=embeds.device)
    for index, (part, pair) in enumerate(zip(parts, pairs, strict=True)):
        length = part.shape[1]
        embeds[:, index, :length] = part
        mask[:, index, :length] = True if pair.mask is None else pair.mask
    return Conditions(embeds, None if bool(mask.all()) else mask, pairs[0].guidance_scale)


def pair_labels(labels: Sequence[int], null_label: int, guidance_scale: float) -> Conditions:
    """Labels of the clip and of each still, beside "no class" if they are to be guided.

    `null_label` is the row behind the last class: a model of 101 classes has 101 there.
    """
    rows = [list(labels)]
    if guidance_scale > 1:
        rows.insert(0, [null_label] * len(labels))
    return Conditions(None, None, guidance_scale, torch.tensor(rows))


def guided(output: Tensor, conditions: Conditions, channels: int) -> Tensor:
    """Join the halves of a model's output: (2, Cout, F, h, w) -> (1, Cout, F, h, w).

    Only the first `channels` (the prediction) are guided; a learned variance is the prompt's or
    the class's own, because an extrapolated variance leaves its range. So did the original's class
    models, which guided the 4 noise channels; its text pipeline guided all 8 channels and then
    dropped the variance, which comes to the same. Without guidance nothing changes.
    """
    if output.shape[0] != conditions.halves:
        raise ShapeError(f"{output.shape[0]} outputs for {conditions.halves} prompts.")
    if conditions.halves == 1:
        return output
    negative, prompt = output.chunk(2)
    mean = negative[:, :channels]
    mean = mean + conditions.guidance_scale * (prompt[:, :channels] - mean)
    return torch.cat([mean, prompt[:, channels:]], dim=1)
