"""Cutting and joining patches against torch's convolutions."""

import pytest
import torch
from model_builders import noise, random_model, relative, tiny
from torch import nn

from latte_core.errors import ShapeError
from latte_core.model.patches import Grid, PatchEmbed, unpatch


@pytest.mark.parametrize(("frames", "size"), [(1, 2), (2, 2), (2, 4)])
def test_patch_embedding_is_a_convolution(frames: int, size: int) -> None:
    patch = PatchEmbed(tiny(patch_size=size, patch_frames=frames))
    kernel = (frames, size, size)
    conv = nn.Conv3d(4, 48, kernel, stride=kernel)
    conv.weight.data = patch.proj.weight.data.reshape(conv.weight.shape)
    conv.bias.data = patch.proj.bias.data
    latents = noise(2, 4, 4, 8, 16)
    with torch.no_grad():
        theirs = conv(latents).flatten(3).permute(0, 2, 3, 1)
        ours = patch(latents)
    assert ours.shape == (2, 4 // frames, 8 * 16 // size**2, 48)
    assert relative(ours, theirs) < 1e-6
    assert patch.grid(latents) == (8 // size, 16 // size)


def test_unpatch_puts_the_channel_fastest() -> None:
    pixels = noise(2, 8, 3, 4, 6)
    patches = pixels.permute(0, 2, 3, 4, 1).reshape(2, 3, 2, 2, 3, 2, 8)
    x = patches.transpose(3, 4).reshape(2, 3, 6, 32)  # (B, F, N, p*p*C)
    assert torch.equal(unpatch(x, Grid(2, 3), 2), pixels)
    with pytest.raises(ShapeError, match="6 tokens do not fill a grid of 3 x 3"):
        unpatch(x, Grid(3, 3), 2)


def test_compression_patch_halves_the_token_frames_and_restores_the_video() -> None:
    model = random_model(tiny(patch_frames=2))
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape))
    with torch.no_grad():
        out = model(noise(2, 4, 4, 8, 8), torch.tensor([1, 2]))
    assert seen == [(2, 2, 16, 48)]
    assert out.shape == (2, 8, 4, 8, 8)
    assert relative(out[:, :, 1], out[:, :, 0]) > 1e-3, "the frames of a tube are told apart"
