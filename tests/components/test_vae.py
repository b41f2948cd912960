"""The autoencoder's door: encode, decode, files, refusals; compared with plain diffusers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from safetensors.torch import load_file, save_file

from latte_core.components.vae import (
    VaeConfig,
    decode_frames,
    decode_temporal,
    encode_frames,
    for_decoding,
    frames_at_once,
    iter_frames,
    load_temporal_vae,
    load_vae,
    new_vae,
    save_vae,
)
from latte_core.errors import CheckpointError, ConfigError, NonFiniteError, ShapeError

CONFIG = VaeConfig(block_out_channels=(8, 16), norm_num_groups=4, scaling_factor=0.5)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return new_vae(CONFIG).eval()


def test_decode_frames_equals_plain_diffusers(vae):
    latents = torch.randn(3, 4, 8, 8)
    with torch.no_grad():
        expected = vae.decode(latents / 0.5).sample
    expected = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    frames = decode_frames(vae, latents)
    assert frames.shape == (3, 16, 16, 3)
    assert frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - expected).max() <= 1
    assert frames.std() > 1


def test_encode_frames_takes_the_mean_or_a_sample(vae):
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
    mean = encode_frames(vae, pixels)
    torch.testing.assert_close(mean, posterior.mean * 0.5)
    sample = encode_frames(vae, pixels, torch.Generator().manual_seed(1))
    again = encode_frames(vae, pixels, torch.Generator().manual_seed(1))
    assert torch.equal(sample, again)
    assert not torch.allclose(sample, mean)


def test_encode_frames_refuses_other_shapes(vae):
    with pytest.raises(ShapeError, match=r"\(N, 3, H, W\)"):
        encode_frames(vae, torch.zeros(3, 16, 16))


def test_decode_reports_nan_and_makes_no_pixels(vae):
    with pytest.raises(NonFiniteError, match="NaN"):
        decode_frames(vae, torch.full((1, 4, 8, 8), float("nan")))


def test_saved_vae_loads_in_stock_diffusers_and_here(vae, tmp_path):
    save_vae(vae, tmp_path, dtype=torch.float32)
    stock = AutoencoderKL.from_pretrained(tmp_path, local_files_only=True)
    ours = load_vae(tmp_path)
    for name, value in vae.state_dict().items():
        assert torch.equal(stock.state_dict()[name], value)
        assert torch.equal(ours.state_dict()[name], value)
    assert stock.config.scaling_factor == 0.5
    assert not list(tmp_path.glob(".*"))


def test_load_vae_reads_old_attention_names(vae, tmp_path):
    save_vae(vae, tmp_path, dtype=torch.float32)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in load_file(tmp_path / WEIGHTS).items():
        for new, old in names.items():
            name = name.replace(f".{new}.", f".{old}.") if ".attentions." in name else name
        state[name] = value
    assert any(".query." in name for name in state)
    save_file(state, tmp_path / WEIGHTS)
    loaded = load_vae(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in vae.state_dict().items())


def _drop(state):
    state.pop("decoder.conv_in.bias")


def _rename(state):
    state["decoder.conv_in.biaz"] = state["decoder.conv_in.bias"].clone()


def _reshape(state):
    state["decoder.conv_in.bias"] = torch.zeros(3)


def _poison(state):
    state["decoder.conv_in.bias"][0] = float("nan")


@pytest.mark.parametrize("damage", [_drop, _rename, _reshape, _poison])
def test_load_vae_refuses_damaged_weights(vae, tmp_path, damage):
    save_vae(vae, tmp_path, dtype=torch.float32)
    state = load_file(tmp_path / WEIGHTS)
    damage(state)
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"decoder\.conv_in\.bia"):
        load_vae(tmp_path)


def test_load_vae_refuses_missing_and_cut_files(vae, tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_vae(tmp_path)
    save_vae(vae, tmp_path)
    data = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_vae(tmp_path)


def test_save_vae_refuses_nan(tmp_path):
    broken = new_vae(CONFIG)
    with torch.no_grad():
        broken.decoder.conv_in.bias[0] = float("inf")
    with pytest.raises(CheckpointError, match="nothing was written"):
        save_vae(broken, tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize("fields", [{"norm_num_groups": 7}, {"scaling_factor": 0.0}])
def test_vae_config_refuses_impossible_values(fields):
    with pytest.raises(ConfigError):
        VaeConfig(**fields)


@pytest.fixture(scope="module")
def temporal_vae(tmp_path_factory):
    torch.manual_seed(1)
    model = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 2,
        block_out_channels=(32, 32),
        layers_per_block=1,
        scaling_factor=0.5,
    )
    folder = tmp_path_factory.mktemp("temporal")
    model.save_pretrained(folder)
    return load_temporal_vae(folder)


def test_temporal_decoder_short_clip_is_decoded_in_one_piece(temporal_vae):
    latents = torch.randn(5, 4, 4, 4)
    with torch.no_grad():
        whole = temporal_vae.decode(latents / 0.5, num_frames=5).sample
    whole = ((whole + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(decode_temporal(temporal_vae, latents) - whole).max() <= 0.51


def test_temporal_decoder_chunks_leave_no_seam(temporal_vae):
    latents = torch.randn(12, 4, 4, 4)
    whole = decode_temporal(temporal_vae, latents, chunk=12).astype(int)
    blended = decode_temporal(temporal_vae, latents, chunk=6, overlap=3).astype(int)
    butted = decode_temporal(temporal_vae, latents, chunk=6, overlap=0).astype(int)
    assert np.abs(blended - whole).mean() < 0.6 * np.abs(butted - whole).mean()
    assert np.array_equal(blended[0], butted[0])


def test_vae_config_json_names_the_stock_class(vae, tmp_path):
    save_vae(vae, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "AutoencoderKL"


def test_frames_decoded_together_are_the_frames_alone(vae):
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    alone = decode_frames(vae, latents)
    together = np.stack(list(iter_frames(for_decoding(vae, "cpu"), latents, at_once=4)))
    assert together.shape == alone.shape
    assert np.abs(together.astype(int) - alone.astype(int)).max() <= 1
    assert alone.std() > 1 and np.abs(alone[0].astype(int) - alone[1].astype(int)).max() > 1


@pytest.mark.parametrize(
    ("device", "side", "free_gib", "wanted"),
    [
        ("cpu", 8, 9, 4),
        ("cpu", 64, 9, 1),
        ("cuda", 64, 24, 4),
        ("cuda", 64, 3, 2),
        ("cuda", 64, 0, 1),
    ],
)
def test_frames_at_once_follow_cache_and_free_memory(device, side, free_gib, wanted):
    """Latte-1's decoder: 256 channels at full size, 268 MB in fp32 at 512 px."""
    config = SimpleNamespace(
        block_out_channels=(16, 32, 64, 96) if side == 8 else (128, 256, 512, 512)
    )
    dtype = torch.float32 if device == "cpu" else torch.float16
    small = torch.nn.Linear(1000, 400, device="meta")
    vae = SimpleNamespace(config=config, dtype=dtype, device=torch.device(device), decoder=small)
    assert frames_at_once(vae, torch.zeros(16, 4, side, side), free_gib * 2**30) == wanted


@pytest.mark.parametrize(("side", "wanted"), [(8, 4), (12, 1), (16, 1)])
def test_frames_of_a_stage_more_share_the_cache(side, wanted):
    """The bundled autoencoder: 1 MiB at 128 px, the widest map 16 channels in fp32."""
    config = SimpleNamespace(block_out_channels=(16, 16, 32, 64, 96))
    decoder = torch.nn.Linear(1000, 400, device="meta")
    cpu = torch.device("cpu")
    vae = SimpleNamespace(config=config, dtype=torch.float32, device=cpu, decoder=decoder)
    assert frames_at_once(vae, torch.zeros(16, 4, side, side), 2**33) == wanted


@pytest.mark.parametrize(("side", "wanted"), [(8, 4), (12, 2), (16, 1), (64, 1)])
def test_frames_share_the_reading_of_weights_that_outweigh_them(side, wanted):
    """Stable Diffusion's decoder, 198 MB in fp32; one frame's widest map has 4 MiB at 64 px."""
    config = SimpleNamespace(block_out_channels=(128, 256, 512, 512))
    decoder = torch.nn.Linear(49_490_179, 1, device="meta")
    cpu = torch.device("cpu")
    vae = SimpleNamespace(config=config, dtype=torch.float32, device=cpu, decoder=decoder)
    assert frames_at_once(vae, torch.zeros(16, 4, side, side), 2**33) == wanted
