"""Wider stages, more latent channels: networks keep what they had and can learn more."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core.components.vae import VaeConfig, load_vae, new_vae
from latte_core.errors import ConfigError
from latte_core.model import Latte, ModelConfig
from latte_core.training.autoencoder import WorldFrames
from latte_core.training.recipe import load_recipe, parse_recipe
from latte_core.training.start import start_vae
from latte_core.training.widening import widen, widened, widens

ROOT = Path(__file__).parents[2]
WORLD = load_recipe(ROOT / "assets" / "world" / "latte-world.json").world
SHAPE = VaeConfig(
    (16, 24), latent_channels=4, norm_num_groups=1, mid_block_add_attention=False, sample_size=16
)
FEW = ModelConfig(
    hidden_size=24,
    depth=2,
    num_heads=2,
    in_channels=4,
    out_channels=8,
    sample_size=4,
    num_frames=2,
    conditioning="none",
)


@pytest.fixture(scope="module")
def pair():
    """An autoencoder with 4 latent channels whose parts all do something, and one of 7 from it."""
    torch.manual_seed(0)
    inner = new_vae(SHAPE)
    vae = new_vae(replace(SHAPE, latent_channels=7))
    assert widens(vae, inner)
    widen(vae, inner)
    return inner, vae


def frames():
    return WorldFrames(WORLD, 16, 8, 5)[0].pixels


@torch.no_grad()
def test_old_channels_and_pictures_stay(pair):
    inner, vae = pair
    x = frames()
    old, new = inner.encode(x).latent_dist, vae.encode(x).latent_dist
    assert new.mean.shape[1] == 7
    torch.testing.assert_close(new.mean[:, :4], old.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new.logvar[:, :4], old.logvar, rtol=1e-4, atol=1e-5)
    assert (new.logvar[:, 4:] == -5).all()
    noisy = torch.cat([old.mean, torch.randn_like(new.mean[:, 4:])], 1)  # not read yet
    torch.testing.assert_close(vae.decode(noisy).sample, inner.decode(old.mean).sample)
    assert vae.config.scaling_factor == inner.config.scaling_factor


@torch.no_grad()
def test_new_channels_see_something_of_like_spread(pair):
    inner, vae = pair
    x = frames()
    old = inner.encode(x).latent_dist.mean.std(dim=(0, 2, 3)).mean()
    spread = vae.encode(x).latent_dist.mean[:, 4:].std(dim=(0, 2, 3))
    assert (spread > old / 5).all()
    assert (spread < old * 5).all()


def test_new_channels_come_to_be_read_and_written(pair):
    """One step of gradient reaches the decoder's view of them, the next one the encoder's."""
    _, vae = pair
    optimiser = torch.optim.SGD(vae.parameters(), 0.1)
    x = frames()
    for _ in range(2):
        optimiser.zero_grad()
        (vae.decode(vae.encode(x).latent_dist.mean).sample - x).square().mean().backward()
        optimiser.step()
    assert vae.decoder.conv_in.weight[:, 4:].abs().max() > 0
    assert vae.encoder.conv_out.weight.grad[4:7].abs().max() > 0


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("widths", [(16, 48), (32, 24), (32, 72)])
def test_wider_stages_give_the_same(widths, groups):
    torch.manual_seed(2)
    shape = replace(SHAPE, norm_num_groups=groups)
    inner, vae = new_vae(shape), new_vae(replace(shape, block_out_channels=widths))
    with torch.no_grad():
        for name, p in inner.named_parameters():  # fresh norms are all alike
            if "norm" in name:
                p.add_(torch.randn_like(p) / 4)
    inner.set_scale(0.7)
    assert widens(vae, inner)
    widen(vae, inner)
    with torch.no_grad():
        old, new = (each.encode(frames()).latent_dist for each in (inner, vae))
        torch.testing.assert_close(new.mean, old.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(new.logvar, old.logvar, rtol=1e-4, atol=1e-5)
        ours, theirs = vae.decode(old.mean).sample, inner.decode(old.mean).sample
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert vae.config.scaling_factor == 0.7


def test_copies_of_a_channel_part():
    """The first gradient already tells two copies of a channel apart."""
    torch.manual_seed(3)
    vae = new_vae(replace(SHAPE, block_out_channels=(16, 48)))
    widen(vae, new_vae(SHAPE))
    (vae.decode(vae.encode(frames()).latent_dist.mean).sample - frames()).square().mean().backward()
    wide = [vae.encoder.mid_block.resnets[0].conv1, vae.decoder.mid_block.resnets[1].conv1]
    for conv in wide:
        assert torch.equal(conv.bias[::2], conv.bias[1::2])
        first, second = conv.weight.grad[::2], conv.weight.grad[1::2]
        assert ((first - second).abs().amax((1, 2, 3)) > 0.01 * first.abs().amax((1, 2, 3))).all()


@torch.no_grad()
def test_stages_and_latents_widen_at_once():
    torch.manual_seed(4)
    inner = new_vae(SHAPE)
    vae = new_vae(replace(SHAPE, latent_channels=7, block_out_channels=(16, 48)))
    assert widens(vae, inner)
    widen(vae, inner)
    old, new = (each.encode(frames()).latent_dist.mean for each in (inner, vae))
    torch.testing.assert_close(new[:, :4], old, rtol=1e-4, atol=1e-5)
    ours, theirs = vae.decode(new).sample, inner.decode(old).sample
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_only_more_channels_and_whole_multiples_widen():
    inner = new_vae(SHAPE)
    assert not widens(inner, inner)
    for other in (
        {"latent_channels": 3},
        {"latent_channels": 3, "block_out_channels": (16, 48)},
        {"latent_channels": 7, "block_out_channels": (16, 32)},
        {"block_out_channels": (16, 12)},
        {"block_out_channels": (48, 48)},  # equal widths: no shortcut between them
        {"block_out_channels": (16, 48), "layers_per_block": 2},
    ):
        assert not widens(new_vae(replace(SHAPE, **other)), inner)


@torch.no_grad()
def test_a_denoiser_predicts_what_it_did_for_the_old_channels():
    torch.manual_seed(1)
    small, large = Latte(FEW), Latte(replace(FEW, in_channels=7, out_channels=14))
    for p in small.parameters():  # a fresh head is zero
        p.normal_(std=0.2)
    large.load_state_dict(widened(small.state_dict(), small.config, large.config))
    latents, step = torch.randn(2, 7, 2, 4, 4), torch.tensor([300, 700])
    theirs, ours = small(latents[:, :4], step), large(latents, step)
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours[:, :4], theirs[:, :4])
    torch.testing.assert_close(ours[:, 7:11], theirs[:, 4:])  # the variance's half
    assert not ours[:, 4:7].any()
    assert not ours[:, 11:].any()


def test_a_denoiser_of_as_many_channels_or_other_patches_stays():
    state = Latte(FEW).state_dict()
    for config in (
        FEW,
        replace(FEW, in_channels=7, out_channels=7),
        replace(FEW, in_channels=7, out_channels=14, patch_size=1),
    ):
        result = widened(state, FEW, config)
        assert all(result[name] is tensor for name, tensor in state.items())


def test_a_run_starts_from_a_folder_with_fewer_channels():
    shipped = ROOT / "assets" / "latte-world"
    recipe = load_recipe(ROOT / "assets" / "world" / "latte-world.json")
    shape = replace(recipe.autoencoder.shape, latent_channels=11)
    vae = new_vae(shape)
    assert start_vae(vae, shipped)
    assert vae.decoder.conv_in.weight[:, 8:].abs().max() == 0
    assert vae.decoder.conv_in.weight[:, :8].abs().max() > 0
    widths = tuple(2 * width for width in shape.block_out_channels)
    wide = new_vae(replace(recipe.autoencoder.shape, block_out_channels=widths))
    assert start_vae(wide, shipped)
    assert wide.config.scaling_factor == load_vae(shipped / "vae").config.scaling_factor


def test_a_recipe_whose_denoiser_reads_other_channels_is_refused():
    data = tiny_recipe_data()
    data["autoencoder"]["shape"]["latent_channels"] = 6
    with pytest.raises(ConfigError, match=r"latent_channels is 6, transformer.in_channels 5"):
        parse_recipe(data)
