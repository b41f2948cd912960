"""An autoencoder that grows a stage outside: twice the side, the latents that it had."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import LOOP, tiny_recipe_data
from torch.nn import functional as F

from latte_core.components.vae import VaeConfig, load_vae, new_vae
from latte_core.errors import ConfigError
from latte_core.training import stages
from latte_core.training.autoencoder import WorldFrames
from latte_core.training.growth import grow, outgrows
from latte_core.training.recipe import load_recipe, parse_recipe
from latte_core.training.start import start_vae

SHIPPED = Path(__file__).parents[2] / "assets" / "latte-world" / "vae"
WORLD = load_recipe(Path(__file__).parents[2] / "assets" / "world" / "latte-world.json").world


def enlarged(inner, **changes):
    """A new autoencoder with one more stage than another."""
    c = inner.config
    widths = (c.block_out_channels[0], *c.block_out_channels)
    fields = {
        "block_out_channels": widths,
        "layers_per_block": c.layers_per_block,
        "latent_channels": c.latent_channels,
        "norm_num_groups": c.norm_num_groups,
        "mid_block_add_attention": c.mid_block_add_attention,
    }
    torch.manual_seed(2)
    return new_vae(VaeConfig(**(fields | changes)))


@pytest.fixture(scope="module")
def trained():
    """The shipped autoencoder, which has learned something; grown once more it is no product."""
    return load_vae(SHIPPED)


@pytest.fixture(scope="module")
def grown(trained):
    vae = enlarged(trained)
    grow(vae, trained)
    return vae


def psnr_of(error):
    """Of pictures in -1..1, all in one, in dB."""
    return float(-10 * (error.square().mean() / 4).log10())


def frames(trained):
    side = trained.config.sample_size * 2
    return WorldFrames(WORLD, side, 8, 5, held_out=True)[0].pixels


@torch.no_grad()
def test_grown_encoder_finds_the_latents_that_half_the_side_has(trained, grown):
    x = frames(trained)
    theirs = trained.encode(F.avg_pool2d(x, 2)).latent_dist
    ours = grown.encode(x).latent_dist
    assert ours.mean.shape == theirs.mean.shape
    error = (ours.mean - theirs.mean).square().mean().sqrt() / theirs.mean.std()
    assert error < 0.03
    assert (ours.logvar - theirs.logvar).abs().mean() < 0.1
    assert grown.config.scaling_factor == trained.config.scaling_factor


@torch.no_grad()
def test_grown_decoder_gives_the_picture_enlarged(trained, grown):
    x = frames(trained)
    latents = trained.encode(F.avg_pool2d(x, 2)).latent_dist.mean
    small, large = trained.decode(latents).sample, grown.decode(latents).sample
    assert large.shape == x.shape
    assert psnr_of(large - F.interpolate(small, scale_factor=2)) > 28
    fresh = enlarged(trained)
    assert psnr_of(fresh.decode(latents).sample - x) + 10 < psnr_of(large - x)


def test_all_of_the_decoder_can_learn(grown):
    """Layers that begin as nothing still get a gradient, so that they can begin."""
    grown.train()
    latents = torch.randn(2, grown.config.latent_channels, 4, 4)
    grown.decode(latents).sample.square().mean().backward()
    assert all(p.grad is not None for p in grown.decoder.parameters())
    new = grown.decoder.up_blocks[-1].resnets[0]
    assert new.conv2.weight.grad.abs().max() > 0
    grown.zero_grad()


def test_only_the_next_larger_shape_outgrows(trained):
    assert outgrows(enlarged(trained), trained)
    assert not outgrows(trained, trained)
    widths = trained.config.block_out_channels
    assert not outgrows(enlarged(trained, block_out_channels=(32, *widths)), trained)
    assert not outgrows(enlarged(trained, layers_per_block=2), trained)


def test_narrow_autoencoders_cannot_grow():
    shape = VaeConfig((8, 16), norm_num_groups=1, mid_block_add_attention=False)
    inner = new_vae(shape)
    vae = new_vae(replace(shape, block_out_channels=(8, 8, 16)))
    assert outgrows(vae, inner)
    with pytest.raises(ConfigError, match="outermost width is 8; to grow it needs 12"):
        grow(vae, inner)


def test_a_run_starts_by_growing_and_its_encoder_stays(tmp_path, trained):
    data = tiny_recipe_data()
    shape = data["autoencoder"]["shape"]
    widths, channels = trained.config.block_out_channels, trained.config.latent_channels
    shape |= {"block_out_channels": [widths[0], *widths], "latent_channels": channels}
    data["transformer"] |= {"in_channels": channels, "out_channels": 2 * channels}
    data["size"] = shape["sample_size"] = 2 * trained.config.sample_size
    data["autoencoder"] |= {"learns": "decoder", "loop": LOOP | {"steps": 1}}
    recipe = parse_recipe(data)
    assert start_vae(new_vae(recipe.autoencoder.shape), SHIPPED.parent)
    run = stages.Run(recipe, tmp_path, {"device": "cpu"}, start_from=SHIPPED.parent)
    before = stages.autoencoder_task(run).model.vae.state_dict()
    stages.train_autoencoder(run)
    after = load_vae(tmp_path / "vae")
    assert after.config.scaling_factor == trained.config.scaling_factor
    moved = {n.split(".")[0] for n, t in after.state_dict().items() if not t.equal(before[n])}
    assert moved == {"decoder", "post_quant_conv"}
