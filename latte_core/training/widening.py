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
    _widen_moments(vae.encoder.conv_out, inner.encoder.conv_out, few, many)
    mixing = inner.quant_conv.weight[:few, :few, 0, 0]
    seen = mixing @ inner.encoder.conv_out.weight[:few].flatten(1)
    fresh = vae.encoder.conv_out.weight[few:many]
    fresh.normal_()
    fresh.mul_(seen.norm(dim=1).mean() / fresh.flatten(1).norm(dim=1)[:, None, None, None])
    for conv, theirs in (
        (vae.quant_conv, inner.quant_conv),
        (vae.post_quant_conv, inner.post_quant_conv),
    ):
        conv.weight.copy_(torch.eye(len(conv.weight))[:, :, None, None])
        conv.bias.zero_()
        _widen_square(conv, theirs, few, many)
    vae.quant_conv.bias[many + few :] = NARROW
    vae.decoder.conv_in.weight[:, few:] = 0
    vae.decoder.conv_in.weight[:, :few] = inner.decoder.conv_in.weight
    vae.decoder.conv_in.bias.copy_(inner.decoder.conv_in.bias)
    vae.set_scale(inner.config.scaling_factor)


def _widen_moments(conv: Any, inner: Any, few: int, many: int) -> None:
    """Put the old means and log variances in their places, and nothing in the new ones."""
    conv.weight.zero_()
    conv.bias.zero_()
    for ours, theirs in ((0, 0), (many, few)):
        conv.weight[ours : ours + few] = inner.weight[theirs : theirs + few]
        conv.bias[ours : ours + few] = inner.bias[theirs : theirs + few]


def _widen_square(conv: Any, inner: Any, few: int, many: int) -> None:
    """Put a 1 x 1 convolution of old channels, or of old means and variances, in its places."""
    halves = range(len(inner.weight) // few)
    for row in halves:
        conv.bias[row * many : row * many + few] = inner.bias[row * few : row * few + few]
        for column in halves:
            ours = conv.weight[row * many : row * many + few, column * many : column * many + few]
            ours.copy_(inner.weight[row * few : row * few + few, column * few : column * few + few])


def widened(
    state: Mapping[str, Tensor], theirs: ModelConfig, config: ModelConfig
) -> dict[str, Tensor]:
    """A denoiser's weights for more latent channels: it neither reads nor predicts the new ones.

    Where `config` has not more channels than `theirs`, or has another patch, the weights are as
    they were. What it predicts for the old channels stays the same.
    """
    result = dict(state)
    few, many = theirs.in_channels, config.in_channels
    shares = theirs.out_channels // few
    alike = (theirs.patch_size, theirs.patch_frames) == (config.patch_size, config.patch_frames)
    if many <= few or not alike or config.out_channels != shares * many or theirs.patch_frames > 1:
        return result
    read = result["patch.proj.weight"].unflatten(1, (few, -1))
    empty = read.new_zeros(len(read), many - few, read.shape[2])
    result["patch.proj.weight"] = torch.cat([read, empty], 1).flatten(1)
    for name in ("head.linear.weight", "head.linear.bias"):  # (p * p, shares, channels, ...)
        given = result[name].unflatten(0, (-1, shares, few))
        more = given.new_zeros(*given.shape[:2], many - few, *given.shape[3:])
        result[name] = torch.cat([given, more], 2).flatten(0, 2)
    return result
