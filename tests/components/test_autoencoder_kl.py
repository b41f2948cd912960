"""Our autoencoder beside diffusers': the same weights of a seed, outputs, gradients and files."""

import json
import logging

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL as Stock
from torch.utils.flop_counter import FlopCounterMode

from latte_core.components.autoencoder_kl import HEADER, AutoencoderConfig, AutoencoderKL
from latte_core.components.vae import load_vae, save_vae
from latte_core.errors import ConfigError

FILES = ("config.json", "diffusion_pytorch_model.safetensors")
SHAPES = {
    "with attention": {
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "sample_size": 16,
        "scaling_factor": 0.5,
    },
    "of the bundled model": {
        "block_out_channels": (8, 8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 1,
        "latent_channels": 5,
        "mid_block_add_attention": False,
    },
    "without the small convolutions": {
        "block_out_channels": (8, 16),
        "norm_num_groups": 2,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "latents_mean": (0.1, 0.2, 0.3, 0.4),
        "force_upcast": False,
    },
}


def both(shape, seed=0):
    """The two classes, each with the weights that the seed gives."""
    depth = len(shape["block_out_channels"])
    fields = shape | {
        "down_block_types": ("DownEncoderBlock2D",) * depth,
        "up_block_types": ("UpDecoderBlock2D",) * depth,
    }
    torch.manual_seed(seed)
    ours = AutoencoderKL(AutoencoderConfig(**fields))
    torch.manual_seed(seed)
    return ours, Stock(**fields)


def pictures(count=2):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def results(vae, x):
    """All that is read of an autoencoder, and the gradients that training would take."""
    vae.zero_grad()
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.mean + 0.1 * posterior.std).sample
    (y.square().mean() + posterior.logvar.mean()).backward()
    drawn = posterior.sample(generator=torch.Generator().manual_seed(2))
    read = [posterior.mean, posterior.mode(), posterior.logvar, posterior.std, drawn, y]
    return [*read, *(p.grad for p in vae.parameters())]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_seed_gives_the_weights_of_diffusers(shape):
    ours, stock = both(shape)
    assert list(ours.state_dict()) == list(stock.state_dict())
    for name, value in stock.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outputs_and_gradients_equal_diffusers(shape, layout):
    ours, stock = (vae.to(memory_format=layout) for vae in both(shape))
    x = pictures().contiguous(memory_format=layout)
    for training in (True, False):
        found, expected = (results(vae.train(training), x) for vae in (ours, stock))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
        assert found[5].std() > 0.01


def test_another_weight_would_be_noticed():
    """Positive control: one number of the last attention layer moves the output."""
    ours, stock = both(SHAPES["with attention"])
    with torch.no_grad():
        ours.decoder.mid_block.attentions[0].to_v.weight[0] += 1
    y, expected = (vae.decode(torch.ones(1, 4, 4, 4)).sample for vae in (ours, stock))
    assert (y - expected).abs().max() > 1e-5


def test_many_frames_at_once_equal_diffusers():
    """From 64 frames on, diffusers leaves the channels-last layout before it upsamples."""
    ours, stock = (v.to(memory_format=torch.channels_last) for v in both(SHAPES["with attention"]))
    with torch.no_grad():
        y, expected = (vae.decode(torch.ones(64, 4, 2, 2)).sample for vae in (ours, stock))
    assert y.stride() == expected.stride()
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_doubling_and_convolving_in_one_go_equals_diffusers(shape):
    ours, stock = both(shape)
    before = flops(ours)
    for block in ours.decoder.up_blocks:
        for layer in block.upsamplers or ():
            layer.join()
    assert list(ours.state_dict()) == list(stock.state_dict())  # no tensor of the folder's
    latents = torch.randn(3, ours.config.latent_channels, 5, 4)  # with borders of all kinds
    with torch.no_grad():
        y, expected = (vae.decode(latents).sample for vae in (ours, stock))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.01
    assert flops(ours) < 0.9 * before


def flops(vae):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        vae.decode(torch.ones(1, vae.config.latent_channels, 4, 4))
    return counter.get_total_flops()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_folder_is_diffusers_to_the_byte_and_loads_in_both(shape, tmp_path):
    ours, stock = both(shape)
    save_vae(ours, tmp_path / "ours", torch.float32)
    stock.save_pretrained(tmp_path / "stock")
    written = [[(tmp_path / k / n).read_bytes() for n in FILES] for k in ("ours", "stock")]
    named = HEADER["_diffusers_version"].encode()
    assert named in written[0][0]
    written[1][0] = written[1][0].replace(diffusers.__version__.encode(), named)
    assert written[0] == written[1]
    theirs = Stock.from_pretrained(tmp_path / "ours", local_files_only=True)
    loaded = (theirs, load_vae(tmp_path / "stock"))
    with torch.no_grad():
        expected = ours.eval().encode(pictures()).latent_dist.mean
        for vae in loaded:
            assert torch.equal(vae.encode(pictures()).latent_dist.mean, expected)


def test_scale_is_kept_in_the_folder(tmp_path):
    ours, _ = both(SHAPES["with attention"])
    ours.set_scale(1 / 3)
    save_vae(ours, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["scaling_factor"] == 1 / 3
    assert load_vae(tmp_path).config.scaling_factor == 1 / 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("act_fn", "gelu"),
        ("down_block_types", ["AttnDownEncoderBlock2D"]),
        ("up_block_types", ["UpDecoderBlock2D", "UpDecoderBlock2D"]),
    ],
)
def test_blocks_of_another_kind_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        AutoencoderKL.from_config({field: value})


def test_unknown_settings_are_said(caplog):
    with caplog.at_level(logging.WARNING):
        config = AutoencoderConfig.from_json({"_class_name": "x", "tiles": 3, "act_fn": "silu"})
    assert "tiles" in caplog.text and "_class_name" not in caplog.text
    assert config.block_out_channels == (64,)
