"""The image autoencoder of latent diffusion in plain PyTorch: the network, its config, its output.

Names of tensors, config.json and results are those of diffusers' `AutoencoderKL`, so a folder of
the one is a folder of the other, and training needs no diffusers. The order in which layers are
made is the same too: a seed gives the same weights.

Source: arXiv 2112.10752, appendix G; diffusers 0.42, models/autoencoders/autoencoder_kl.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latte_core.errors import ConfigError

log = logging.getLogger(__name__)

EPSILON = 1e-6  # of every group normalisation
LOGVAR_RANGE = (-30.0, 20.0)  # to which a posterior's log variance is held
# Nearest-neighbour upsampling in channels-last layout fails for more than so many frames or
# numbers: diffusers issue 984, pytorch issue 141831.
FRAMES_AT_ONCE, NUMBERS_AT_ONCE = 64, 2**31
HEADER = {"_class_name": "AutoencoderKL", "_diffusers_version": "0.42.1"}  # of config.json


def pixels_per_latent(block_out_channels: Sequence[int]) -> int:
    """How many pixels of a side one latent stands for: every stage but the last halves the side."""
    return 2 ** (len(block_out_channels) - 1)


@dataclass(frozen=True)
class AutoencoderConfig:
    """What config.json says, under diffusers' names and with its defaults.

    `scaling_factor` is what latents are multiplied with to have about unit variance; the network
    itself does not do it. `sample_size`, `shift_factor`, `latents_mean`, `latents_std` and
    `force_upcast` are for programs that read the folder, too. Raises ConfigError for blocks other
    than those of Stable Diffusion's autoencoders.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: Any = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        depth = len(self.block_out_channels)
        wanted = {
            "down_block_types": ("DownEncoderBlock2D",) * depth,
            "up_block_types": ("UpDecoderBlock2D",) * depth,
            "act_fn": "silu",
        }
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ConfigError(
                    f"The autoencoder's {name} is {getattr(self, name)!r}; only {value!r} can be "
                    "run, as Stable Diffusion's autoencoders have it."
                )

    @property
    def factor(self) -> int:
        """How many pixels of a side stand for one latent."""
        return pixels_per_latent(self.block_out_channels)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AutoencoderConfig:
        """Take a config.json's content; settings that are not known are named in the log."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(k for k in data if k not in known and not k.startswith("_")):
            log.warning("the autoencoder's config.json has settings unused: %s", ", ".join(unknown))
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in data.items()
            if name in known
        }
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """What config.json is written from."""
        return HEADER | asdict(self)


class Posterior:
    """What the encoder finds likely: a Gaussian for every number of the latents (N, C, h, w)."""

    def __init__(self, parameters: Tensor) -> None:
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(*LOGVAR_RANGE)
        self.std = torch.exp(0.5 * self.logvar)

    def mode(self) -> Tensor:
        """The likeliest latents (N, C, h, w)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Latents (N, C, h, w) drawn from it, on the generator's device if there is one."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(
            self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype
        )
        return self.mean + self.std * noise.to(self.mean.device)


class Encoded(NamedTuple):
    """Result of `encode`."""

    latent_dist: Posterior


class Decoded(NamedTuple):
    """Result of `decode`: frames (N, 3, H, W), about -1..1."""

    sample: Tensor


class AutoencoderKL(nn.Module):
    """Frames (N, 3, H, W) in -1..1 to a posterior of latents (N, C, h, w), and back."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = (
            nn.Conv2d(2 * channels, 2 * channels, 1) if config.use_quant_conv else None
        )
        self.post_quant_conv = (
            nn.Conv2d(channels, channels, 1) if config.use_post_quant_conv else None
        )

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> AutoencoderKL:
        """A new network as a config.json's content describes it."""
        return cls(AutoencoderConfig.from_json(data))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.encoder.conv_in.weight.dtype

    def set_scale(self, scaling_factor: float) -> None:
        """Say what latents are to be multiplied with to have about unit variance."""
        self.config = replace(self.config, scaling_factor=scaling_factor)

    def save_config(self, folder: Path) -> None:
        """Write config.json as diffusers does."""
        text = json.dumps(self.config.to_json(), indent=2, sort_keys=True) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")

    def encode(self, x: Tensor) -> Encoded:
        """Frames (N, 3, H, W) in -1..1 -> the posterior of their latents (N, C, h, w)."""
        moments = self.encoder(x)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return Encoded(Posterior(moments))

    def decode(self, latents: Tensor) -> Decoded:
        """Unscaled latents (N, C, h, w) -> frames (N, 3, H, W)."""
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return Decoded(self.decoder(latents))


class Encoder(nn.Module):
    """Frames (N, 3, H, W) -> means and log variances (N, 2C, h, w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, layers, groups = _sizes(config)
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for n, (before, width) in enumerate(pairwise((widths[0], *widths))):
            last = n == len(widths) - 1
            self.down_blocks.append(DownBlock(before, width, layers, groups, not last))
        self.mid_block = MidBlock(widths[-1], groups, config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPSILON)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Go down, through the middle, and out."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents (N, C, h, w) -> frames (N, 3, H, W)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, layers, groups = _sizes(config)
        widths = widths[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.up_blocks = nn.ModuleList()  # stands before mid_block, which is made first
        self.mid_block = MidBlock(widths[0], groups, config.mid_block_add_attention)
        for n, (before, width) in enumerate(pairwise((widths[0], *widths))):
            last = n == len(widths) - 1
            self.up_blocks.append(UpBlock(before, width, layers + 1, groups, not last))
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPSILON)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Go through the middle, up, and out."""
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class DownBlock(nn.Module):
    """Residual layers, then half the side unless it is the last block."""

    def __init__(self, before: int, width: int, layers: int, groups: int, shrinks: bool) -> None:
        super().__init__()
        self.resnets = _residuals(before, width, layers, groups)
        self.downsamplers = nn.ModuleList([Downsample(width)]) if shrinks else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, width, H/2, W/2), or with the side as it was."""
        for layer in (*self.resnets, *(self.downsamplers or ())):
            x = layer(x)
        return x


class UpBlock(nn.Module):
    """Residual layers, then twice the side unless it is the last block."""

    def __init__(self, before: int, width: int, layers: int, groups: int, grows: bool) -> None:
        super().__init__()
        self.resnets = _residuals(before, width, layers, groups)
        self.upsamplers = nn.ModuleList([Upsample(width)]) if grows else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, width, 2H, 2W), or with the side as it was."""
        for layer in (*self.resnets, *(self.upsamplers or ())):
            x = layer(x)
        return x


class MidBlock(nn.Module):
    """A residual layer, attention over all places if wanted, another residual layer."""

    def __init__(self, width: int, groups: int, attention: bool) -> None:
        super().__init__()
        first = Residual(width, width, groups)
        self.attentions = nn.ModuleList([PlaceAttention(width, groups)] if attention else [])
        self.resnets = nn.ModuleList([first, Residual(width, width, groups)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Residual(nn.Module):
    """Two normalised convolutions beside a straight path."""

    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=EPSILON)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, eps=EPSILON)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, width, H, W)."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        if self.conv_shortcut is not None:
            # DDP wants gradients in the weights' layout: diffusers issue 12975.
            x = self.conv_shortcut(x.contiguous() if self.training else x)
        return x + y


class PlaceAttention(nn.Module):
    """One head of attention over all places of a map, beside a straight path."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=EPSILON)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        places = self.group_norm(x.flatten(2)).transpose(1, 2)  # (N, HW, C)
        q, k, v = (layer(places)[:, None] for layer in (self.to_q, self.to_k, self.to_v))
        read = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        return read.transpose(1, 2).reshape(x.shape) + x


class Downsample(nn.Module):
    """Half the side by a convolution that pads right and below."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the side: every number four times, then a convolution.

    `join` makes one transposed convolution of both, which multiplies each number with 16 weights
    in place of 36: of the nine that a convolution sees, only four differ.
    """

    joined: Tensor | None

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.register_buffer("joined", None, persistent=False)

    @torch.no_grad()
    def join(self) -> None:
        """From now on run both as one, with the convolution's weights as they are now."""
        kernel = self.conv.weight.flip(2, 3).transpose(0, 1)  # as a transposed convolution has it
        places = product((0, 1), repeat=2)
        spread = [F.pad(kernel, (x, 1 - x, y, 1 - y)) for y, x in places]
        self.joined = torch.stack(spread).sum(0).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        if self.joined is not None:
            return F.conv_transpose2d(x, self.joined, self.conv.bias, stride=2, padding=1)
        if len(x) >= FRAMES_AT_ONCE or 2 * x.numel() > NUMBERS_AT_ONCE:
            x = x.contiguous()
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _sizes(config: AutoencoderConfig) -> tuple[tuple[int, ...], int, int]:
    return config.block_out_channels, config.layers_per_block, config.norm_num_groups


def _residuals(before: int, width: int, layers: int, groups: int) -> nn.ModuleList:
    """So many residual layers, the first from `before` channels."""
    return nn.ModuleList(
        Residual(before if n == 0 else width, width, groups) for n in range(layers)
    )
