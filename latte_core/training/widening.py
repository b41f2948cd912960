"""A wider autoencoder from a narrower one, and more latent channels for both networks.

What was there keeps its meaning: at the start a wider network gives what the narrower one gave. Two
things bound a small autoencoder. One is how many numbers stand for a frame: on the bundled model's
world, whose frames were 256 numbers, subjects of about their ground's colour lost their heads. The
other is how many pictures its inner layers can tell apart, which is what their width is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latte_core.components.autoencoder_kl import AutoencoderKL
from latte_core.model import ModelConfig

NARROW = -5.0  # log variance with which a new channel's posterior starts


def widens(vae: Any, inner: Any) -> bool:
    """Whether an autoencoder is of `inner`'s shape but is wider.

    It may have more latent channels, and stages of two, three or so times `inner`'s widths.
    """
    more, fewer = vae.config, inner.config
    widths = more.block_out_channels, fewer.block_out_channels
    if vae.state_dict().keys() != inner.state_dict().keys():  # equal widths take no shortcut
        return False
    if any(a % b for a, b in zip(*widths, strict=True)):
        return False
    grows = widths[0] != widths[1] or more.latent_channels > fewer.latent_channels
    return grows and more == replace(
        fewer,
        block_out_channels=more.block_out_channels,
        latent_channels=max(more.latent_channels, fewer.latent_channels),
        scaling_factor=more.scaling_factor,
        sample_size=more.sample_size,
    )


def widen(vae: Any, inner: Any) -> None:
    """Give an `AutoencoderKL` the weights of a narrower one, which it then is the equal of.

    A stage's channels are repeated, see `_repeat`. A new latent channel starts as a random view of
    what the encoder sees, about as far spread as the old ones, and the decoder does not read it.
    """
    widths = vae.config.block_out_channels
    if widths != inner.config.block_out_channels:
        wide = AutoencoderKL(replace(inner.config, block_out_channels=widths))
        _repeat(wide, inner)
        inner = wide
    if vae.config.latent_channels == inner.config.latent_channels:
        vae.load_state_dict(inner.state_dict())
    else:
        _add_latent_channels(vae, inner)
    vae.set_scale(inner.config.scaling_factor)


@torch.no_grad()
def _repeat(wide: Any, inner: Any) -> None:
    """Repeat every channel as often as its stage is wider; what reads it reads all of them.

    The readers' weights are split among the copies in random shares, so that copies get different
    gradients and part (after Net2WiderNet, arXiv 1511.05641). Copies lie side by side, in the group
    of the original, so that group norms see the same statistics.
    """
    found = inner.state_dict()
    state = {}
    for name, own in wide.state_dict().items():
        values = found[name].repeat_interleave(len(own) // len(found[name]), 0)
        if values.ndim > 1:
            read = values.shape[1]
            copies = own.shape[1] // read
            shares = torch.rand(len(own), read, copies, *[1] * (values.ndim - 2))
            shares = shares / shares.sum(2, keepdim=True)
            values = (values[:, :, None] * shares).flatten(1, 2)
        state[name] = values
    wide.load_state_dict(state)


@torch.no_grad()
def _add_latent_channels(vae: Any, inner: Any) -> None:
    """Give an autoencoder the weights of one of its widths that has fewer latent channels."""
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
