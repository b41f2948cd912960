"""A larger autoencoder from a smaller one: one stage outside for twice the side, the same latents.

A denoiser that was trained on the smaller one's latents then draws pictures of twice the side and
stays as it is. At the start the grown decoder gives the smaller one's picture, coarsely enlarged,
and the grown encoder finds its latents to about 1 % of their spread (measured on the bundled
model), which leaves the decoder to be trained.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from latte_core.errors import ConfigError

SHARED = (
    *("in_channels", "latent_channels", "layers_per_block"),
    *("norm_num_groups", "mid_block_add_attention"),
)
PHASES = 4  # views of every colour that the first convolution makes, see `_see_halves`


def outgrows(vae: Any, inner: Any) -> bool:
    """Whether an autoencoder's shape is that of `inner` with one more stage of equal width."""
    own, theirs = vae.config, inner.config
    return tuple(own.block_out_channels) == (
        theirs.block_out_channels[0],
        *theirs.block_out_channels,
    ) and all(getattr(own, name) == getattr(theirs, name) for name in SHARED)


@torch.no_grad()
def grow(vae: Any, inner: Any) -> None:
    """Give an `AutoencoderKL` the weights of the one that it outgrows, its new stage a start.

    Raises ConfigError if the outermost width is less than 12, four for every colour.
    """
    colours, width = vae.config.in_channels, vae.config.block_out_channels[0]
    if width < PHASES * colours:
        raise ConfigError(
            f"The autoencoder's outermost width is {width}; to grow it needs {PHASES * colours}, "
            f"{PHASES} for each of {colours} colours."
        )
    fresh = vae.state_dict()
    kept = {_moved(n): t for n, t in inner.state_dict().items() if "encoder.conv_in" not in n}
    vae.load_state_dict(fresh | kept)
    for block in (vae.encoder.down_blocks[0], vae.decoder.up_blocks[-1]):
        for residual in block.resnets:
            residual.conv2.weight.zero_()
            residual.conv2.bias.zero_()
    double = vae.decoder.up_blocks[-2].upsamplers[0].conv
    double.weight.copy_(torch.eye(width)[:, :, None, None] * _tap(1, 1))
    double.bias.zero_()
    _see_halves(vae.encoder.conv_in, colours)
    _read_halves(vae.encoder.down_blocks[0].downsamplers[0].conv, inner.encoder.conv_in, colours)
    vae.set_scale(inner.config.scaling_factor)


def _moved(name: str) -> str:
    """Where the grown autoencoder, whose encoder is a block longer, has a tensor."""
    parts = name.split(".")
    if parts[:2] == ["encoder", "down_blocks"]:
        parts[2] = str(int(parts[2]) + 1)
    return ".".join(parts)


def _tap(y: int, x: int) -> Tensor:
    """A 3 x 3 kernel that sees one place."""
    kernel = torch.zeros(3, 3)
    kernel[y, x] = 1
    return kernel


def _see_halves(conv: Any, colours: int) -> None:
    """Let the first convolution show, for every colour, what a stride-2 one behind it cannot reach.

    That one sees places 0, 1 and 2 from a pixel pair on, and has to read the means of the pair
    before, of this one and of the next. Along each axis phase 0 is the mean of a place and the one
    after it, which serves for this pair and the next; phase 1 is the place before, which stands for
    the pair before.
    """
    conv.weight.zero_()
    conv.bias.zero_()
    along = (torch.tensor([0.0, 0.5, 0.5]), torch.tensor([1.0, 0.0, 0.0]))
    for colour, (y, x) in product(range(colours), product((0, 1), repeat=2)):
        conv.weight[PHASES * colour + 2 * y + x, colour] = along[y][:, None] * along[x]


def _read_halves(conv: Any, inner: Any, colours: int) -> None:
    """Make the stride-2 convolution what `inner`, a 3 x 3 one, is on a picture of half the side."""
    conv.weight.zero_()
    conv.bias.copy_(inner.bias)
    places = ((1, 0), (0, 0), (0, 2))  # phase and place for the pair before, this one, the next
    for (dy, (py, y)), (dx, (px, x)) in product(enumerate(places), repeat=2):
        for colour in range(colours):
            conv.weight[:, PHASES * colour + 2 * py + px, y, x] = inner.weight[:, colour, dy, dx]
