"""More latent channels for an autoencoder and a denoiser that were trained with fewer.

The channels that were there keep their meaning, and at the start the new ones change nothing that
either network gives for the old ones. How many numbers stand for a frame is what bounds a small
autoencoder: on the bundled model's world, whose frames were 256 numbers, subjects of about their
ground's colour lost their heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latte_core.model import ModelConfig

NARROW = -5.0  # log variance with which a new channel's posterior starts


def widens(vae: Any, inner: Any) -> bool:
    """Whether an autoencoder is of `inner`'s shape but has more latent channels."""
    more, fewer = vae.config, inner.config
    return more.latent_channels > fewer.latent_channels and more == replace(
        fewer,
        latent_channels=more.latent_channels,
        scaling_factor=more.scaling_factor,
        sample_size=more.sample_size,
    )


@torch.no_grad()
def widen(vae: Any, inner: Any) -> None:
    """Give an `AutoencoderKL` the weights of one with fewer latent channels.

    A new channel starts as a random view of what the encoder sees, about as far spread as the old
    ones, and the decoder does not read it yet.
    """
    own, found = vae.state_dict(), inner.state_dict()
    state = {n: t for n, t in found.items() if own[n].shape == t.shape}
    vae.load_state_dict(own | state)
    few, many = inner.config.latent_channels, vae.config.latent_channels
    channels = torch.arange(few)
    moments = torch.cat([channels, many + channels])  # where the old means and log variances go
    sees, mixes = vae.encoder.conv_out, inner.quant_conv.weight[:few, :few, 0, 0]
    for values, theirs in zip(sees.parameters(), inner.encoder.conv_out.parameters(), strict=True):
        values.zero_()
        values[moments] = theirs
    spread = (mixes @ inner.encoder.conv_out.weight[:few].flatten(1)).norm(dim=1).mean()
    fresh = sees.weight[few:many]
    fresh.normal_()
    fresh.mul_(spread / fresh.flatten(1).norm(dim=1)[:, None, None, None])
    for conv, theirs, places in (
        (vae.quant_conv, inner.quant_conv, moments),
        (vae.post_quant_conv, inner.post_quant_conv, channels),
    ):
        conv.weight.copy_(torch.eye(len(conv.weight))[:, :, None, None])
        conv.weight[places[:, None], places] = theirs.weight
        conv.bias.zero_()
        conv.bias[places] = theirs.bias
    vae.quant_conv.bias[many + few :] = NARROW
    vae.decoder.conv_in.weight[:, few:] = 0
    vae.decoder.conv_in.weight[:, :few] = inner.decoder.conv_in.weight
    vae.set_scale(inner.config.scaling_factor)


def widened(
    state: Mapping[str, Tensor], theirs: ModelConfig, config: ModelConfig
) -> dict[str, Tensor]:
    """A denoiser's weights for more latent channels: it neither reads nor predicts the new ones.

    Where `config` has not more channels than `theirs`, or has another patch or one of several
    frames, the weights are as they were. What it predicts for the old channels stays the same.
    """
    result = dict(state)
    few, many = theirs.in_channels, config.in_channels
    shares = theirs.out_channels // few
    same_patch = theirs.patch_size == config.patch_size
    alike = same_patch and theirs.patch_frames == config.patch_frames == 1
    if many <= few or not alike or config.out_channels != shares * many:
        return result
    read = result["patch.proj.weight"].unflatten(1, (few, -1))
    empty = read.new_zeros(len(read), many - few, read.shape[2])
    result["patch.proj.weight"] = torch.cat([read, empty], 1).flatten(1)
    for name in ("head.linear.weight", "head.linear.bias"):  # (p * p, shares, channels, ...)
        given = result[name].unflatten(0, (-1, shares, few))
        more = given.new_zeros(*given.shape[:2], many - few, *given.shape[3:])
        result[name] = torch.cat([given, more], 2).flatten(0, 2)
    return result
