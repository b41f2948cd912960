"""Checks of what `Latte` is called with. Every error is a ShapeError that names what would fit."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from latte_core.errors import ShapeError
from latte_core.model.config import ModelConfig


class Inputs(NamedTuple):
    """What a pass is told, checked.

    timesteps (B, P), labels (B, P), embeds (B, P, L, C_text), mask (B, P, L). P is 1 if all frames
    share what they are told, else there is a row for the video and one for each image.
    frame_positions (F/pt,) are the video's positions in time, None for 0, 1, 2 ...
    """

    timesteps: Tensor
    labels: Tensor | None
    embeds: Tensor | None
    mask: Tensor | None
    frame_positions: Tensor | None = None

    def rows(self, part: slice) -> Inputs:
        """Some of the P rows; one that all frames share is kept."""

        def cut(x: Tensor) -> Tensor:
            return x if x.shape[1] == 1 else x[:, part]

        told = [None if x is None else cut(x) for x in (self.labels, self.embeds, self.mask)]
        labels, embeds, mask = told
        return Inputs(cut(self.timesteps), labels, embeds, mask, self.frame_positions)


def check_latents(config: ModelConfig, latents: Tensor, timesteps: Tensor, num_images: int) -> int:
    """Check latents and timesteps, and say how many frames, at the front, are a video."""
    if latents.ndim != 5 or latents.shape[1] != config.in_channels:
        raise ShapeError(
            f"Latents of shape {_shape(latents)} do not fit; this model takes "
            f"(B, {config.in_channels}, F, h, w)."
        )
    batch, _, total, height, width = latents.shape
    if height % config.patch_size or width % config.patch_size:
        raise ShapeError(
            f"Latents of {height} x {width} cannot be cut into patches of {config.patch_size}; "
            f"both sides have to be multiples of {config.patch_size}."
        )
    if not 0 <= num_images <= total or total == 0:
        raise ShapeError(f"num_images is {num_images}, but the latents hold {total} frames.")
    if timesteps.shape not in ((batch,), (batch, 1 + num_images)):
        raise ShapeError(
            f"Timesteps of shape {_shape(timesteps)} do not fit; {batch} samples need ({batch},), "
            f"or ({batch}, {1 + num_images}) with each image's own behind the video's."
        )
    return _check_frames(config, total - num_images, num_images)


def _check_frames(config: ModelConfig, frames: int, num_images: int) -> int:
    """Frames of the video: as given, but 0 for a single one, which is an image."""
    if config.patch_frames > 1 and (num_images or not frames):
        raise ShapeError(
            f"Images do not fit tubes of {config.patch_frames} frames; num_images has to be 0."
        )
    if frames == 1 and config.patch_frames == 1:
        return 0
    regular = frames in (0, config.num_frames)
    if not regular and (config.temporal_positions == "absolute" or frames % config.patch_frames):
        raise ShapeError(
            f"A video of {frames} frames does not fit: this model has positions for "
            f"{config.num_frames} frames. Give that many, or one frame for an image."
        )
    return frames


def check_positions(config: ModelConfig, positions: Tensor | None, frames: int) -> Tensor | None:
    """Positions in time of the video's token frames (F/pt,), where the model's are absolute."""
    if positions is None:
        return None
    if config.temporal_positions != "absolute":
        raise ShapeError("This model turns by distances in time; leave frame_positions out.")
    if positions.shape != (frames // config.patch_frames,):
        raise ShapeError(
            f"frame_positions of shape {_shape(positions)} do not fit; a video of {frames} frames "
            f"needs ({frames // config.patch_frames},)."
        )
    return positions


def check_labels(
    config: ModelConfig, labels: Tensor | None, batch: int, num_images: int
) -> Tensor | None:
    """Class labels as (B, 1) or (B, 1+I); None for a model without classes."""
    if config.conditioning != "class":
        if labels is not None:
            raise ShapeError("This model knows no classes; leave class_labels out.")
        return None
    if labels is None or labels.shape not in ((batch,), (batch, 1 + num_images)):
        raise ShapeError(
            f"class_labels has to be of shape ({batch},) or ({batch}, {1 + num_images}), not "
            f"{_shape(labels)}."
        )
    return labels.reshape(batch, -1)


def check_prompt(
    config: ModelConfig, embeds: Tensor | None, batch: int, num_images: int
) -> Tensor | None:
    """Prompt embeddings as (B, 1 or 1+I, L, C_text); None for a model that reads none."""
    if config.conditioning != "text":
        if embeds is not None:
            raise ShapeError("This model reads no prompt; leave prompt_embeds out.")
        return None
    if embeds is not None and embeds.ndim == 3:
        embeds = embeds[:, None]
    if (
        embeds is None
        or embeds.ndim != 4
        or embeds.shape[0] != batch
        or embeds.shape[1] not in (1, 1 + num_images)
        or embeds.shape[3] != config.caption_channels
    ):
        raise ShapeError(
            f"prompt_embeds has to be of shape ({batch}, L, {config.caption_channels}) or "
            f"({batch}, {1 + num_images}, L, {config.caption_channels}), not {_shape(embeds)}."
        )
    return embeds


def check_mask(mask: Tensor | None, embeds: Tensor | None) -> Tensor | None:
    """A mask for `embeds` (B, P, L, C_text) as booleans (B, P, L)."""
    if mask is None:
        return None
    if embeds is None:
        raise ShapeError("prompt_attention_mask came without prompt_embeds; leave it out.")
    if mask.ndim == 2:
        mask = mask[:, None]
    if mask.shape != embeds.shape[:3]:
        raise ShapeError(
            f"prompt_attention_mask of shape {_shape(mask)} does not fit prompt_embeds of shape "
            f"{_shape(embeds)}."
        )
    return mask.bool()


def _shape(x: Tensor | None) -> str:
    """A shape for an error text."""
    return "missing" if x is None else str(tuple(x.shape))
