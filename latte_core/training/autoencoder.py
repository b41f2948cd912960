"""Task 1: the autoencoder, trained on single frames of the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from latte_core.data.emphasis import contrasts, draw_favouring, gains
from latte_core.data.pixels import to_frames, to_pixels
from latte_core.data.render import render_covered
from latte_core.data.world import World
from latte_core.training.loop import Losses


def peak_signal_to_noise(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of two uint8 arrays of one shape."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


MARGIN = 2  # pixels around a subject that count as its own: its outline is there


class Frames(NamedTuple):
    """Frames (N, 3, H, W) in -1..1, and how far subjects cover them (N, 1, H, W) in 0..1."""

    pixels: Tensor
    cover: Tensor


@dataclass(frozen=True)
class WorldFrames(Dataset):
    """Batch n: `batch_size` frames of the world, two from each clip.

    `mirrored` is the share of clips that are seen in a mirror: most subjects look to one side, and
    only half of a turn shows the other. `favoured` is as in `latte_core.data.emphasis`.
    """

    world: World
    size: int
    batch_size: int
    seed: int = 0
    held_out: bool = False
    mirrored: float = 0.0
    favoured: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __getitem__(self, number: int) -> Frames:
        rng = np.random.default_rng((self.seed, number))
        clips, covers = [], []
        for _ in range(self.batch_size // 2):
            only = [int(k) for k in rng.choice(16, 2, replace=False)]
            spec = draw_favouring(self.world, self.favoured, rng, self.held_out)
            clip, cover = render_covered(spec, 16, self.size, only=only)
            turned = self.mirrored > 0 and rng.random() < self.mirrored
            clips.append(clip[:, :, ::-1] if turned else clip)
            covers.append(cover[:, :, ::-1] if turned else cover)
        share = torch.from_numpy(np.concatenate(covers))[:, None].float() / 255
        return Frames(to_pixels(np.concatenate(clips)), share)


class Reconstruction(nn.Module):
    """An autoencoder as one forward pass: frames in; frames, posterior mean and log variance out.

    Going through `forward` lets data-parallel training see every use of the weights. With
    `decoder_only` the encoder does not learn, and latents keep their meaning.
    """

    vae: Any  # an AutoencoderKL

    def __init__(self, vae: nn.Module, decoder_only: bool = False) -> None:
        super().__init__()
        self.vae = vae
        self.encoder_learns = not decoder_only
        if decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (N, 3, H, W), noise (N, C, h, w) -> frames (N, 3, H, W), mean, log variance.

        For a run without noise a single 0 will do.
        """
        with torch.set_grad_enabled(self.encoder_learns and torch.is_grad_enabled()):
            posterior = self.vae.encode(x).latent_dist
        y = self.vae.decode(posterior.mean + posterior.std * noise).sample
        return y, posterior.mean, posterior.logvar


@dataclass
class AutoencoderTask:
    """Train a diffusers AutoencoderKL: errors of pixels and of edges, plus a little KL.

    Both errors count squared as well as absolute. The square is what PSNR measures and what makes
    sprites matter, which cover few pixels; the absolute keeps plain ground plain; the edges keep
    outlines sharp. On a subject and its outline all of it counts `subject_weight` times, times the
    gain of a faint one by `contrast_power`, see `latte_core.data.emphasis`.
    """

    model: Reconstruction
    batches: WorldFrames
    kl_weight: float = 2e-4
    edge_weight: float = 0.5
    square_weight: float = 4.0
    subject_weight: float = 1.0
    contrast_power: float = 0.0

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Losses:
        """Return reconstruction error plus weighted KL of a batch, which is `Frames`."""
        x = batch.pixels.contiguous(memory_format=torch.channels_last)
        config = self.model.vae.config
        height, width = (side // config.factor for side in x.shape[2:])
        shape = (len(x), config.latent_channels, height, width)
        y, mean, logvar = model(x, torch.randn(shape, generator=generator).to(x.device))
        error = y - x
        near = F.max_pool2d(batch.cover, 2 * MARGIN + 1, 1, MARGIN)
        on_subject: float | Tensor = self.subject_weight
        if self.contrast_power:
            gained = gains(contrasts(x[:, :, None], batch.cover), self.contrast_power)
            on_subject = self.subject_weight * gained[:, None, None, None]
        weights = 1 + (on_subject - 1) * near
        edges = self._error(error.diff(dim=2), weights[:, :, 1:])
        edges = edges + self._error(error.diff(dim=3), weights[..., 1:])
        kl = (mean**2 + logvar.exp() - 1 - logvar).mean() / 2
        mse = (error.detach() ** 2).mean(dim=(1, 2, 3)) / 4
        figures = {"psnr": float((-10 * mse.log10()).mean()), "kl": float(kl.detach())}
        loss = self._error(error, weights) + self.edge_weight * edges + self.kl_weight * kl
        return loss, figures

    def _error(self, error: Tensor, weights: Tensor) -> Tensor:
        return (weights * (error.abs() / 4 + self.square_weight * error.square())).mean()

    def picture(self, model: nn.Module) -> Image.Image:
        """Held-out frames above their reconstructions."""
        held_out = WorldFrames(self.batches.world, self.batches.size, 16, seed=9, held_out=True)
        x = held_out[0].pixels.to(next(model.parameters()).device)
        rows = [np.concatenate(list(to_frames(t)), axis=1) for t in (x, reconstruct(model, x))]
        sheet = Image.fromarray(np.concatenate(rows))
        zoom = max(1, 128 // self.batches.size)
        return sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)


def reconstruct(model: nn.Module, x: Tensor) -> Tensor:
    """Send frames (N, 3, H, W) through the autoencoder without noise."""
    y: Tensor
    y, _, _ = model(x, x.new_zeros(()))
    return y


def measure_reconstruction(model: nn.Module, frames: WorldFrames, count: int = 32) -> float:
    """Mean PSNR in dB over `count` batches of (held-out) frames, each frame on its own."""
    device, figures = next(model.parameters()).device, []
    with torch.no_grad():
        for n in range(count):
            x = frames[n].pixels.to(device)
            pairs = zip(to_frames(x), to_frames(reconstruct(model, x)), strict=True)
            figures += [peak_signal_to_noise(a, b) for a, b in pairs]
    return float(np.mean(figures))
