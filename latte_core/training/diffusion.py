"""The task of a configuration: Latte alone learns, on clips and stills, told classes or prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from latte_core.components.text_encoder import TextEncoder
from latte_core.components.vae import decode_frames, encode_frames
from latte_core.diffusion.loss import DiffusionLoss
from latte_core.model import ModelConfig
from latte_core.training.config import SheetConfig
from latte_core.training.loop import Losses
from latte_core.training.recipe import ObjectiveRecipe
from latte_core.training.samples import SampleBatches
from latte_core.training.sampling import (
    Draws,
    attention_kernels,
    diffusion_losses,
    lay_out,
    sample_ddim,
)
from latte_core.training.text_to_video import Batch, tokenize_captions

SHOWN = 6  # frames of a clip on a sheet
FRAMES_AT_ONCE = 8  # frames that the autoencoder encodes together


@dataclass
class Frozen:
    """The networks around the denoiser, which do not learn; None where they are not needed.

    A text encoder with a closed vocabulary knows a list of words and no others.
    """

    vae: Any | None = None
    text_encoder: TextEncoder | None = None
    closed_vocabulary: bool = False

    def to(self, device: torch.device) -> None:
        """Put them where the batch is; a second time does nothing."""
        networks: list[Any] = [self.vae]
        if self.text_encoder is not None:
            networks.append(self.text_encoder.model)
        for network in networks:
            if network is not None and network.device != device:
                network.to(device)


@dataclass
class DiffusionTask:
    """Train a Latte with the paper's loss, whatever it is told.

    `model` is a Latte of shape `config`, perhaps with additions that alone learn. Pixels are
    encoded with a sample of the autoencoder's posterior, or with its mean.
    """

    model: nn.Module
    config: ModelConfig
    batches: SampleBatches
    frozen: Frozen
    objective: DiffusionLoss
    settings: ObjectiveRecipe
    sheet: SheetConfig
    sample_posterior: bool = True

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Losses:
        """Mean squared error plus variational bound, over clips and stills alike."""
        x0 = self._latents(batch, generator)
        told = self._told(batch)
        num_images = self.batches.images

        def forward(noisy: Tensor, steps: Tensor) -> Tensor:
            with attention_kernels(self.settings.attention):
                return model(noisy, steps, num_images=num_images, **told)

        o = self.settings
        draws = Draws(o.timesteps, num_images, o.image_timesteps)
        return diffusion_losses(self.objective, x0, draws, generator, forward)

    @torch.no_grad()
    def _latents(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Clean latents (B, C, F+I, h, w): those of the batch, or its pixels encoded."""
        if "latents" in batch:
            return batch["latents"]
        pixels = batch["pixels"]
        self.frozen.to(pixels.device)
        draw = generator if self.sample_posterior else None
        vae: Any = self.frozen.vae  # there, since there are pixels
        parts = [
            encode_frames(vae, part, draw) for part in pixels.flatten(0, 1).split(FRAMES_AT_ONCE)
        ]
        return torch.cat(parts).float().unflatten(0, (len(pixels), -1)).transpose(1, 2)

    @torch.no_grad()
    def _told(self, batch: Batch) -> dict[str, Tensor]:
        """What the network is told, as arguments of its forward pass."""
        if "labels" in batch:
            return {"class_labels": batch["labels"]}
        if "reads" not in batch:
            return {}
        embeds = batch.get("embeds")
        if embeds is None:
            embeds = self._encode(batch["ids"], batch["mask"])
        return {"prompt_embeds": embeds, "prompt_attention_mask": batch["reads"]}

    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and masks (B, P, L) -> hidden states (B, P, L, C_text)."""
        self.frozen.to(ids.device)
        encoder: Any = self.frozen.text_encoder
        return encoder.forward(ids.flatten(0, 1), mask.flatten(0, 1)).unflatten(0, ids.shape[:2])

    def picture(self, model: nn.Module) -> Image.Image:
        """A row for each sample: frames of a clip, or a still."""
        rows = [_row(frames) for frames in self.draw(model)]
        return lay_out(rows, 2 if rows[0].shape[1] > rows[0].shape[0] else 4)

    def clean_latents(self, number: int) -> Tensor:
        """Latents (B, C, F+I, h, w) of batch `number`, where the frozen networks are."""
        batch = self.batches[number]
        device = next(self.model.parameters()).device
        return self._latents({k: v.to(device) for k, v in batch.items()}, _draw(number))

    @property
    def latent_side(self) -> int:
        """Side of a latent frame."""
        return int(self.clean_latents(0).shape[-1])

    @torch.no_grad()
    def draw(self, model: nn.Module) -> Iterator[NDArray[np.uint8]]:
        """Draw one clip, uint8 (F, H, W, 3), for each line of the sheet's settings."""
        device = next(model.parameters()).device
        _, channels, frames, *sides = self.clean_latents(0).shape
        length = frames - self.batches.images
        for number, told in enumerate(self._sheet()):
            noise = torch.randn((1, channels, length, *sides), generator=_draw(number))
            predict = _Guided(
                model,
                {name: value.to(device) for name, value in told.items()},
                self.sheet.guidance_scale,
            )
            latents = sample_ddim(predict, noise.to(device), self.objective, self.sheet.steps)
            yield self._decode(latents[0].transpose(0, 1))

    def _sheet(self) -> list[dict[str, Tensor]]:
        """Arguments of each sample's forward pass, two rows: left empty, and told."""
        config = self.config
        if config.conditioning == "class":
            classes = self.sheet.classes or tuple(range(min(8, config.num_classes)))
            return [{"class_labels": torch.tensor([config.num_classes, c])} for c in classes]
        if config.conditioning == "none":
            return [{} for _ in range(self.sheet.samples)]
        return self._prompts()

    def _prompts(self) -> list[dict[str, Tensor]]:
        """The sheet's prompts encoded; without prompts or encoder, those of the first batch."""
        encoder, length = self.frozen.text_encoder, self.settings.length
        if encoder is None or not self.sheet.prompts:
            first = self._told(self.batches[0])
            pairs = zip(first["prompt_embeds"], first["prompt_attention_mask"], strict=True)
            return [{"prompt_embeds": e[:1], "prompt_attention_mask": m[:1]} for e, m in pairs]
        told = []
        for prompt in self.sheet.prompts:
            both = tokenize_captions(encoder, [prompt, prompt], length, torch.tensor([True, False]))
            embeds = self._encode(both["ids"][:, None], both["mask"][:, None])
            told.append({"prompt_embeds": embeds, "prompt_attention_mask": both["reads"][:, None]})
        return told

    def _decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latents (F, C, h, w) -> frames; without an autoencoder, their first three channels."""
        if self.frozen.vae is not None:
            self.frozen.to(latents.device)
            return decode_frames(self.frozen.vae, latents)
        shown = latents[:, :3].float().cpu()
        low, high = shown.min(), shown.max()
        levels = (shown - low) / (high - low).clamp_min(1e-6) * 255
        return levels.round().to(torch.uint8).movedim(1, -1).numpy()


@dataclass(frozen=True)
class _Guided:
    """What the network predicts for one sample, guided if there are two rows to tell it."""

    model: nn.Module
    told: dict[str, Tensor]
    scale: float

    def __call__(self, x: Tensor, time: Tensor) -> Tensor:
        """Latents (1, C, F, h, w) at timesteps (1,) -> prediction (1, C, F, h, w)."""
        rows = max([len(value) for value in self.told.values()], default=1)
        output = self.model(
            x.expand(rows, -1, -1, -1, -1),
            time.expand(rows),
            **self.told,
        )[:, : x.shape[1]]
        if rows == 1:
            return output
        plain, told = output.chunk(2)
        return plain + self.scale * (told - plain)


def _draw(number: int) -> torch.Generator:
    """Noise of sample `number`: the same on every sheet."""
    return torch.Generator().manual_seed(7 + number)


def _row(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most six evenly spaced frames side by side."""
    shown = np.unique(np.linspace(0, len(frames) - 1, SHOWN).round().astype(int))
    return np.concatenate(list(frames[shown]), axis=1)
