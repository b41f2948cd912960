"""Transformer folders: what is written reads back, here and in stock diffusers."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import LatteTransformer3DModel
from tiny_models import T2V, same_weights

from latte_core.checkpoints import load_transformer, save_transformer
from latte_core.errors import CheckpointError
from latte_core.model import Latte, ModelConfig, preset

FP32 = torch.float32


def random_model(config: ModelConfig) -> Latte:
    torch.manual_seed(0)
    model = Latte(config).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    return model


@pytest.mark.parametrize("shard_bytes", [15_000_000, 100_000])
def test_saved_t2v_folder_runs_in_stock_diffusers(tmp_path: Path, shard_bytes: int) -> None:
    model = random_model(T2V)
    save_transformer(model, tmp_path / "transformer", FP32, shard_bytes)
    stock = LatteTransformer3DModel.from_pretrained(tmp_path / "transformer")
    again = load_transformer(tmp_path / "transformer")
    latents, prompt = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 3, 20)
    with torch.no_grad():
        theirs = stock(latents, torch.tensor([9]), encoder_hidden_states=prompt).sample
        mine = again(latents, torch.tensor([9]), prompt)
        before = model(latents, torch.tensor([9]), prompt)
    assert same_weights(again, model)
    # Not to the bit: what a CPU's kernels round depends on where in memory weights begin.
    assert (mine - before).abs().max() <= 1e-6 * before.abs().max()
    assert (mine - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert again.config == T2V
    assert (len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1) is (shard_bytes < 1e6)


def test_stock_folder_is_read_with_and_without_shards(tmp_path: Path) -> None:
    stock = LatteTransformer3DModel.from_config(T2V.to_json()).eval()
    latents, prompt = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 3, 20)
    for size in ("10GB", "100KB"):
        stock.save_pretrained(tmp_path / size, max_shard_size=size)
        ours = load_transformer(tmp_path / size)
        with torch.no_grad():
            theirs = stock(latents, torch.tensor([9]), encoder_hidden_states=prompt).sample
            mine = ours(latents, torch.tensor([9]), prompt)
        assert (mine - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(hidden_size=48, depth=2, num_heads=4, conditioning="class", num_classes=3),
        ModelConfig(hidden_size=48, depth=3, num_heads=4, variant=4, injection="all_tokens"),
        preset("S/4", depth=2, variant=3, temporal_positions="rope", patch_frames=2),
    ],
)
def test_other_models_keep_our_names(tmp_path: Path, config: ModelConfig) -> None:
    model = random_model(config)
    save_transformer(model, tmp_path / "transformer", FP32)
    again = load_transformer(tmp_path / "transformer")
    assert again.config == config
    assert json.loads((tmp_path / "transformer/config.json").read_text())["_class_name"] == "Latte"
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_dtype_is_cast_on_writing_and_on_reading(tmp_path: Path) -> None:
    save_transformer(random_model(T2V), tmp_path / "transformer")
    assert load_transformer(tmp_path / "transformer").head.linear.weight.dtype == torch.float16
    loaded = load_transformer(tmp_path / "transformer", FP32)
    assert {p.dtype for p in loaded.parameters()} == {FP32}


def test_a_failed_save_leaves_the_old_folder(tmp_path: Path) -> None:
    model = random_model(T2V)
    save_transformer(model, tmp_path / "transformer", FP32)
    before = {p.name: p.read_bytes() for p in (tmp_path / "transformer").iterdir()}
    model.head.linear.weight.data[0, 0] = 1e6  # beyond fp16
    with pytest.raises(CheckpointError, match="weight holds NaN or infinity"):
        save_transformer(model, tmp_path / "transformer")
    assert {p.name: p.read_bytes() for p in (tmp_path / "transformer").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["transformer"]


@pytest.mark.parametrize("limit", [100, 50_000])
def test_a_full_disk_leaves_the_old_folder(tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stands in for the disk: writing fails in the same way."""
    resource = pytest.importorskip("resource")
    model = random_model(T2V)
    save_transformer(model, tmp_path / "transformer", FP32)
    before = {p.name: p.read_bytes() for p in (tmp_path / "transformer").iterdir()}
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            save_transformer(model, tmp_path / "transformer", FP32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert {p.name: p.read_bytes() for p in (tmp_path / "transformer").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["transformer"]
