"""From a configuration to files that the engine loads, by the command line."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from latte_core import Engine, GenerationRequest, cli
from latte_core.checkpoints import load_transformer, read_manifest
from latte_core.checkpoints.lora import FILE, merge_lora
from latte_core.components.vae import VaeConfig, new_vae, save_vae

WORLD = {
    "subjects": ["cat", "rocket", "bee"],
    "motions": ["left", "right"],
    "scenes": ["plain", "night"],
    "colours": ["red", "blue"],
}
LOOP = {
    "steps": 2,
    "workers": 0,
    "device": "cpu",
    "warmup_steps": 1,
    "log_every": 1,
    "save_every": 1,
    "picture_every": 2,
}


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """A folder with a tiny autoencoder: two pixels a latent."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    save_vae(new_vae(VaeConfig((8, 8), 1, sample_size=16, norm_num_groups=4)), folder)
    return str(folder)


def configuration(**changes):
    """Two steps on the world at 32 pixels, the least that the engine makes."""
    settings = {
        "name": "tiny",
        "data": {
            "kind": "world",
            "world": WORLD,
            "clips": 8,
            "num_frames": 4,
            "size": 32,
            "batch_size": 2,
            "images": 1,
        },
        "model": {"fields": {"hidden_size": 24, "depth": 2, "num_heads": 2, "patch_size": 2}},
        "objective": {"length": 12},
        "loop": LOOP,
        "sheet": {"steps": 2, "samples": 2},
        "result": {"num_inference_steps": 2, "scheduler": "ddpm", "guidance_scale": 2.0},
    }
    return {**settings, **changes}


def train(tmp_path, settings, *options):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(settings))
    arguments = ["train", str(file), "--folder", str(tmp_path / "run")]
    assert cli.main([*arguments, "--out", str(tmp_path / "out"), *options]) == 0
    return tmp_path / "out"


@pytest.mark.parametrize("conditioning", ["class", "none"])
def test_trained_model_is_loaded_by_the_engine(tmp_path, vae, conditioning):
    settings = configuration(parts={"vae": vae})
    settings["model"]["fields"] |= {"conditioning": conditioning}
    out = train(tmp_path, settings)
    assert sorted(p.name for p in (tmp_path / "run").glob("*.png")) == ["sheet-0000002.png"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["name"] == "tiny"
    manifest = read_manifest(out)
    assert (manifest.defaults.num_frames, manifest.defaults.height) == (4, 32)
    with Engine.load(out, device="cpu") as engine:
        info = engine.describe()
        assert info.conditioning == conditioning
        request = {"seed": 1}
        if conditioning == "class":
            assert info.classes == ("cat", "rocket", "bee")
            request["class_label"] = 2
        video = engine.generate(GenerationRequest(**request))
    assert video.frames.shape == (4, 32, 32, 3)


def test_run_goes_on_where_it_stopped_and_can_be_written_again(tmp_path, vae):
    settings = configuration(parts={"vae": vae})
    train(tmp_path, settings)
    first = load_transformer(tmp_path / "out" / "transformer").state_dict()
    log = (tmp_path / "run" / "log.csv").read_text()
    train(tmp_path, settings)
    again = load_transformer(tmp_path / "out" / "transformer").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert (tmp_path / "run" / "log.csv").read_text() == log
    train(tmp_path, settings, "--steps", "3")
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == log.count("\n") + 1


def test_lora_of_a_text_model_is_merged_by_engine_and_command(tmp_path, tiny_folder, capsys):
    settings = configuration(
        start={"path": str(tiny_folder)},
        model={},
        lora={"rank": 2, "alpha": 4.0},
        loop={**LOOP, "learning_rate": 0.05, "ema_decay": 0.0, "ema_warmup": False},
    )
    settings["data"] |= {"size": 64, "num_frames": 8, "batch_size": 1}
    out = train(tmp_path, settings)
    assert sorted(path.name for path in out.iterdir()) == [FILE]
    changed = [n for n, v in load_file(out / FILE).items() if "lora_B" in n and v.abs().max() > 0]
    assert changed
    request = GenerationRequest(prompt="a red cow", seed=3, num_inference_steps=2)
    with Engine.load(tiny_folder, device="cpu") as engine:
        plain, hash_before = engine.generate(request), engine.describe().model_hash
    with Engine.load(tiny_folder, device="cpu", lora=out) as engine:
        tuned, hash_after = engine.generate(request), engine.describe().model_hash
    assert not np.array_equal(plain.frames, tuned.frames)
    assert hash_before != hash_after  # recipes tell them apart
    network = load_transformer(tiny_folder / "transformer")
    assert merge_lora(network, out) > 0
    target = tmp_path / "clip.png"
    arguments = ["generate", "a red cow", "--out", str(target), "--mode", "image", "--steps", "1"]
    more = ["--model", str(tiny_folder), "--quiet", "--lora", str(out / FILE)]
    assert cli.main([*arguments, *more]) == 0
    assert target.is_file()
    assert cli.main([*arguments, *more[:-1], str(tmp_path / "none")]) == 2
    assert "no LoRA file" in capsys.readouterr().err


def test_text_model_from_scratch_is_a_folder_that_stock_diffusers_reads(tmp_path, tiny_folder):
    from diffusers import LatteTransformer3DModel

    parts = {"vae": str(tiny_folder), "text_encoder": str(tiny_folder)}
    settings = configuration(parts=parts)
    settings["data"] |= {"size": 64, "batch_size": 1}
    settings["model"]["fields"] |= {"conditioning": "text", "injection": "adaln_single"}
    settings["sheet"]["prompts"] = ["a red cow"]
    out = train(tmp_path, settings)
    stock = LatteTransformer3DModel.from_pretrained(out / "transformer")
    assert stock.config.caption_channels == 32
    with Engine.load(out, device="cpu") as engine:
        video = engine.generate(GenerationRequest(prompt="a cow", seed=1, guidance_scale=2.0))
    assert video.frames.shape == (4, 64, 64, 3)
