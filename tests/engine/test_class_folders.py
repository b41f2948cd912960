"""What an engine takes from the folder of a class or unconditional model."""

import json
import shutil

import pytest
import torch
from tiny_class_folder import CLASSES, DEFAULTS, INDEX, class_config, write_tiny_class_folder
from tiny_folder import FRAMES, SIZE, randomise, tiny_vae

from latte_core import CheckpointError, Engine, GenerationRequest, Latte, MemoryPlanError, preset
from latte_core.checkpoints import Defaults
from latte_core.components.vae import load_vae
from latte_core.engine.plans import GIB, choose_plan
from latte_core.engine.survey import class_names, conditioning_of, folder_defaults, measure

STOCK_VAE = {"block_out_channels": [128, 256, 512, 512]}


@pytest.mark.parametrize("classes,guidance", [(5, 7.0), (0, 1.0)])
def test_without_a_manifest_the_defaults_are_the_releases_at_the_models_size(classes, guidance):
    config = class_config(num_classes=classes).to_json()
    expected = Defaults(250, guidance, FRAMES, SIZE, SIZE, 8, "ddpm")
    assert folder_defaults(config, STOCK_VAE) == expected


def test_the_manifest_gives_defaults_and_names(tmp_path):
    card = {"name": "UCF", "classes": list(CLASSES)}
    with Engine.load(write_tiny_class_folder(tmp_path / "m", card=card)) as engine:
        info = engine.describe()
        assert (info.model, info.defaults, info.classes) == ("UCF", DEFAULTS, CLASSES)
        made = engine.generate(GenerationRequest(class_label=0, num_inference_steps=1))
        assert (made.recipe["guidance_scale"], made.recipe["scheduler"]) == (7.0, "ddpm")


def test_a_default_guidance_of_an_unconditional_model_is_none(tmp_path):
    folder = write_tiny_class_folder(tmp_path / "m", num_classes=0, card={})
    with Engine.load(folder) as engine:
        assert DEFAULTS.guidance_scale == 7
        assert engine.describe().defaults.guidance_scale == 1
        assert engine.generate(GenerationRequest(num_inference_steps=1)).frames.any()


@pytest.mark.parametrize("card", [{}, {"classes": 3}, {"classes": None}])
def test_classes_without_names_have_their_numbers(card):
    assert class_names(card, 3) == ("0", "1", "2")


def test_a_card_with_too_few_names_is_refused(tmp_path):
    folder = write_tiny_class_folder(tmp_path / "m", card={"classes": ["a", "b"]})
    with pytest.raises(CheckpointError, match="names 2 classes, its transformer has 5: correct"):
        Engine.load(folder)


def test_the_kind_of_a_model_is_in_its_config():
    assert conditioning_of(class_config().to_json()) == "class"
    assert conditioning_of({"hidden_size": 48, "depth": 4, "num_heads": 4}) == "none"
    assert conditioning_of({"attention_head_dim": 72, "num_attention_heads": 16}) == "text"


def test_a_folder_without_an_autoencoder_says_how_to_add_one(tmp_path):
    """Defect 7 of the original: each of its scripts looks for another folder. Ours is `vae`."""
    folder = write_tiny_class_folder(tmp_path / "m", vae=False)
    with pytest.raises(CheckpointError, match=r"vae is missing.*sd-vae-ft-ema.*--vae VAE_FOLDER"):
        Engine.load(folder)
    randomise(tiny_vae(), seed=2).save_pretrained(folder / "sd-vae-ft-ema")
    with pytest.raises(CheckpointError, match="vae is missing"):
        Engine.load(folder)
    shutil.move(folder / "sd-vae-ft-ema", folder / "vae")
    Engine.load(folder).close()


def test_an_autoencoder_of_another_model_is_refused(tmp_path):
    folder = write_tiny_class_folder(tmp_path / "m", vae=False)
    randomise(tiny_vae(8), seed=2).save_pretrained(folder / "vae")
    assert load_vae(folder / "vae").config.latent_channels == 8
    with pytest.raises(CheckpointError, match="8 latent channels, the transformer 4: give the"):
        Engine.load(folder)


@pytest.mark.parametrize("part", ["transformer", "scheduler"])
def test_a_missing_part_is_named(tmp_path, part):
    folder = write_tiny_class_folder(tmp_path / "m")
    shutil.rmtree(folder / part)
    with pytest.raises(CheckpointError, match=part):
        Engine.load(folder)


def test_a_text_model_of_our_own_kind_needs_its_text_encoder(tmp_path):
    folder = write_tiny_class_folder(
        tmp_path / "m", num_classes=0, conditioning="text", caption_channels=32
    )
    with pytest.raises(CheckpointError, match=r"reads prompts, but .*text_encoder is missing"):
        Engine.load(folder)


@pytest.mark.parametrize("memory", ["offload-8bit", "offload-4bit", "text-on-cpu"])
def test_plans_about_a_text_encoder_are_refused(tmp_path, memory):
    folder = write_tiny_class_folder(tmp_path / "m")
    with pytest.raises(MemoryPlanError, match="which this model does not have: choose auto, res"):
        Engine.load(folder, memory=memory)


@pytest.fixture(scope="module", params=[101, 0])
def xl(request, tmp_path_factory):
    """Latte-XL/2 for 256 pixels and a Stable Diffusion autoencoder as headers alone."""
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("xl")
    classes = request.param
    config = preset("XL/2", num_classes=classes, conditioning="class" if classes else "none")
    vae_config = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
    }
    with torch.device("meta"):
        parts = {"transformer": Latte(config), "vae": AutoencoderKL(**vae_config)}
    for name, module in parts.items():
        write_header(folder / name, module)
    return folder, config, vae_config


def write_header(folder, module):
    """A safetensors file whose tensors are a hole: right sizes, no bytes on the disk."""
    header, end = {}, 0
    for name, value in module.state_dict().items():
        start, end = end, end + 4 * value.numel()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    folder.mkdir()
    with (folder / "diffusion_pytorch_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def test_xl_is_planned_from_its_headers(xl):
    folder, config, vae = xl
    defaults = folder_defaults(config.to_json(), vae)
    assert (defaults.height, defaults.num_frames) == (256, 16)
    sizes = measure(folder, config.to_json(), vae, defaults)
    # Published: 673.68 M without labels, 83.65 M for the autoencoder.
    assert sizes.transformer == pytest.approx(673.68e6 + config.num_classes * 1152, rel=1e-4)
    assert sizes.vae == 83_653_863
    assert (sizes.text, sizes.text_packed, sizes.tokens) == (0, 0, 16 * 256)
    assert sizes.halves == (2 if config.num_classes else 1)
    card = choose_plan(sizes, {"cuda": 4 * GIB, "cpu": 16 * GIB})
    assert (card.device, card.name, card.transformer_dtype) == ("cuda", "resident", "float16")
    # Weights in fp16 are 1.5 GB; a pass over 8192 or 4096 tokens adds a quarter of a GB at most.
    assert 1.51e9 < card.peak_bytes < 1.8e9
    host = choose_plan(sizes, {"cpu": 16 * GIB})
    assert (host.name, host.transformer_dtype) == ("resident", "float32")
    assert 3.03e9 < host.peak_bytes < 3.6e9
    assert "text encoder" not in host.sentence
    tight = 2.33 if config.num_classes else 2.2  # between what the two plans need
    assert choose_plan(sizes, {"cuda": int(tight * GIB), "cpu": 16 * GIB}).name == "offload"
    with pytest.raises(MemoryPlanError, match=r"needs .* of 2\.0 GiB free\. Close other"):
        choose_plan(sizes, {"cpu": 2 * GIB})


def test_the_index_is_that_of_a_converted_model(tmp_path):
    folder = write_tiny_class_folder(tmp_path / "m")
    assert json.loads((folder / "model_index.json").read_text()) == INDEX
