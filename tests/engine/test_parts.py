"""What an engine takes from a model folder: defaults, card, preview map, sizes, foreign files."""

import json
import shutil

import numpy as np
import pytest
from diffusers import AutoencoderKL, LatteTransformer3DModel
from safetensors.torch import load_file, save_file
from tiny_folder import FRAMES, SIZE
from transformers import T5EncoderModel

from latte_core import CheckpointError, Encoded, Engine, Finished, GenerationRequest, Step
from latte_core.checkpoints import (
    Defaults,
    PreviewMap,
    build_manifest,
    sd1_preview,
    write_manifest,
)
from latte_core.checkpoints.files import read_json
from latte_core.engine.survey import folder_defaults, measure

REQUEST = GenerationRequest("a red rocket flies", seed=7, num_inference_steps=1)
DEFAULTS = Defaults(3, 2.0, FRAMES, 32, 48, 6, "unipc")
GREY = PreviewMap(weight=((0.0, 0.0, 0.0),) * 4, bias=(0.2, 0.4, 0.6))
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def described(tiny_folder, tmp_path_factory):
    """The tiny folder with a manifest that says all else than Latte-1's defaults."""
    folder = tmp_path_factory.mktemp("described") / "model"
    shutil.copytree(tiny_folder, folder)
    card = {"name": "Tiny World", "vocabulary": "closed", "aliases": {"\u732b": "cat"}}
    write_manifest(folder, build_manifest(folder, DEFAULTS, GREY, card))
    return folder


def test_the_manifest_gives_defaults_preview_and_name(described):
    with Engine.load(described) as engine:
        info = engine.describe()
        assert info.defaults == DEFAULTS
        assert (info.model, info.card["vocabulary"]) == ("Tiny World", "closed")
        events = list(engine.stream(GenerationRequest("a red zebra!", seed=1)))
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1].total == 3
    assert (steps[0].preview == (51, 102, 153)).all()
    made = next(event for event in events if isinstance(event, Finished)).generation
    assert made.frames.shape == (FRAMES, 32, 48, 3)
    assert made.fps == 6
    assert made.recipe["scheduler"] == "unipc"
    assert made.recipe["guidance_scale"] == 2.0


def test_a_closed_vocabulary_names_unknown_words_and_an_open_one_does_not(described, tiny_folder):
    request = GenerationRequest("A red \u732b flies", seed=1, num_inference_steps=1)
    for folder, words in ((described, ("\u732b",)), (tiny_folder, ())):
        with Engine.load(folder) as engine:
            encoded = next(e for e in engine.stream(request) if isinstance(e, Encoded))
            assert encoded.unknown_words == words


def test_an_unknown_word_comes_with_the_nearest_known_one(described):
    request = GenerationRequest("a red \u732b flies", seed=1, num_inference_steps=1)
    with Engine.load(described) as engine:
        encoded = next(e for e in engine.stream(request) if isinstance(e, Encoded))
    assert encoded.unknown_words == ("\u732b",)
    assert encoded.suggestions == {"\u732b": "cat"}


def test_marks_that_a_closed_vocabulary_lacks_are_dropped(described):
    with Engine.load(described) as engine:
        plain, marked = (
            engine.generate(GenerationRequest(prompt, seed=1, num_inference_steps=1))
            for prompt in ("a red rocket flies", "A red, rocket flies!")
        )
    assert np.array_equal(plain.frames, marked.frames)


def test_a_changed_byte_is_refused_before_use(described, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(described, folder)
    path = folder / "vae" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="vae"):
        Engine.load(folder)


def test_without_a_manifest_the_defaults_are_latte_1s_at_the_models_size(tiny_folder):
    transformer = read_json(tiny_folder / "transformer" / "config.json")
    vae = read_json(tiny_folder / "vae" / "config.json")
    assert folder_defaults(transformer, vae) == Defaults(50, 7.5, FRAMES, SIZE, SIZE, 8, "ddim")
    latte_1 = {"sample_size": 64, "video_length": 16}
    stock_vae = {"block_out_channels": [128, 256, 512, 512]}
    assert folder_defaults(latte_1, stock_vae) == Defaults(50, 7.5, 16, 512, 512, 8, "ddim")


def test_sizes_are_counted_from_headers_alone(tiny_folder):
    configs = [read_json(tiny_folder / part / "config.json") for part in ("transformer", "vae")]
    sizes = measure(tiny_folder, *configs, folder_defaults(*configs))
    loaded = {
        "text": T5EncoderModel.from_pretrained(tiny_folder / "text_encoder"),
        "transformer": LatteTransformer3DModel.from_pretrained(tiny_folder / "transformer"),
        "vae": AutoencoderKL.from_pretrained(tiny_folder / "vae"),
    }
    for name, model in loaded.items():
        assert getattr(sizes, name) == sum(p.numel() for p in model.parameters())
    packed = sum(
        p.numel()
        for name, p in loaded["text"].named_parameters()
        if name.rpartition(".")[0].endswith((".q", ".k", ".v", ".o", ".wi_0", ".wi_1"))
    )
    assert sizes.text_packed == packed
    assert sizes.tokens == FRAMES * 16
    assert sizes.hidden_size == 48
    assert sizes.decoder_elements == 8 * SIZE * SIZE


def test_the_sd1_map_is_the_published_one_in_bytes():
    preview = sd1_preview()
    grey = np.array(preview.bias)
    assert grey.tolist() == [0.5] * 3
    # The published factors, applied to a latent of ones, in -1..1.
    published = np.array([0.143, 0.411, 0.172])
    ones = np.ones(4) @ np.array(preview.weight) + grey
    np.testing.assert_allclose(ones, (published + 1) / 2, atol=1e-9)


def test_the_surplus_null_caption_of_latte_1_changes_nothing(tiny_folder, tmp_path):
    folder = tmp_path / "hub"
    shutil.copytree(tiny_folder, folder)
    path = folder / "transformer" / WEIGHTS
    state = load_file(path)
    state["caption_projection.y_embedding"] = state["proj_out.weight"].new_ones(120, 32)
    save_file(state, path)
    with Engine.load(tiny_folder) as plain, Engine.load(folder) as hub:
        assert np.array_equal(plain.generate(REQUEST).frames, hub.generate(REQUEST).frames)


def test_sharded_transformers_load(tiny_folder, tmp_path):
    folder = tmp_path / "sharded"
    shutil.copytree(tiny_folder, folder)
    (folder / "transformer" / WEIGHTS).unlink()
    stock = LatteTransformer3DModel.from_pretrained(tiny_folder / "transformer")
    stock.save_pretrained(folder / "transformer", max_shard_size="200KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    with Engine.load(tiny_folder) as plain, Engine.load(folder) as other:
        assert np.array_equal(plain.generate(REQUEST).frames, other.generate(REQUEST).frames)


@pytest.mark.parametrize(
    "path",
    [
        "model_index.json",
        "transformer/config.json",
        f"transformer/{WEIGHTS}",
        f"vae/{WEIGHTS}",
        "text_encoder/model.safetensors",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/spiece.model",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "cut", "noise"])
def test_missing_and_damaged_files_are_refused_by_name(tiny_folder, tmp_path, path, damage):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    target = folder / path
    if damage == "missing":
        target.unlink()
    else:
        data = target.read_bytes()
        target.write_bytes(data[: len(data) // 2] if damage == "cut" else b"\x07" * 500)
    with pytest.raises(CheckpointError, match=path.split("/")[0]):
        Engine.load(folder)


def test_a_variance_type_without_variance_channels_is_ignored(tiny_folder, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(tiny_folder, folder)
    config = read_json(folder / "transformer" / "config.json")
    plain = LatteTransformer3DModel.from_config({**config, "out_channels": 4})
    plain.save_pretrained(folder / "transformer")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**read_json(path), "variance_type": "learned_range"}))
    with Engine.load(folder) as engine:
        made = engine.generate(GenerationRequest("a cow", "", "video", 0, 1, 2, scheduler="ddpm"))
    assert np.isfinite(made.latents).all()
