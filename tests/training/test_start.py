"""A run that starts from a shipped folder begins where that folder ended."""

import shutil
from dataclasses import replace

import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core.checkpoints import load_transformer
from latte_core.components.text_encoder import load_text_encoder
from latte_core.components.vae import encode_frames, load_vae, new_vae
from latte_core.errors import ConfigError
from latte_core.model import Latte
from latte_core.training import stages
from latte_core.training.recipe import parse_recipe
from latte_core.training.start import copy_vae, start_latte, start_turbo, start_vae
from latte_core.training.weights import load_state


def parts(**world):
    """A new Latte and text encoder of the tiny recipe, its world changed."""
    data = tiny_recipe_data()
    data["world"] |= world
    recipe = parse_recipe(data)
    torch.manual_seed(9)
    return Latte(recipe.transformer), stages.make_text_encoder(recipe)


def test_start_gives_the_folders_output(bundle):
    latte, text = parts()
    before = text.encode("a cat moves left at night")
    assert start_latte(latte, text, bundle) == []
    after = text.encode("a cat moves left at night")
    assert torch.equal(
        after, load_text_encoder(bundle).encode("a cat moves left at night")
    ) and not torch.allclose(after, before, atol=1e-3)
    theirs = load_transformer(bundle / "transformer", torch.float32)
    x, t = torch.randn(1, 5, 16, 4, 4), torch.tensor([500])
    mask = torch.ones(after.shape[:2])
    with torch.no_grad():
        assert torch.equal(latte(x, t, after, mask), theirs(x, t, after, mask))


def test_start_keeps_known_words_in_a_larger_vocabulary(bundle):
    latte, text = parts(subjects=["balloon", "cat", "rocket"], motions=["left", "right", "spin"])
    random = text.model.shared.weight.detach().clone()
    new = start_latte(latte, text, bundle)
    assert "▁balloon" in new and "▁spins" in new and "▁cat" not in new
    theirs = load_text_encoder(bundle)
    rows, their_rows = text.tokenizer.get_vocab(), theirs.tokenizer.get_vocab()
    words = text.model.shared.weight
    assert rows["▁rocket"] != their_rows["▁rocket"]
    assert torch.equal(words[rows["▁rocket"]], theirs.model.shared.weight[their_rows["▁rocket"]])
    assert torch.equal(words[rows["▁balloon"]], random[rows["▁balloon"]])


def test_start_refuses_other_widths(bundle):
    data = tiny_recipe_data()
    data["transformer"] |= {"hidden_size": 64}
    recipe = parse_recipe(data)
    with pytest.raises(ConfigError, match="sizes of the folder"):
        start_latte(Latte(recipe.transformer), stages.make_text_encoder(recipe), bundle)
    data["transformer"] |= {"hidden_size": 32, "depth": 2}
    with pytest.raises(ConfigError, match="depth of the folder"):
        start_latte(Latte(parse_recipe(data).transformer), stages.make_text_encoder(recipe), bundle)


def test_turbo_starts_with_what_distillation_changed(bundle):
    fast = load_transformer(bundle / "transformer_turbo", torch.float32).state_dict()
    slow = load_transformer(bundle / "transformer", torch.float32).state_dict()
    assert any(not torch.equal(fast[name], slow[name]) for name in fast)
    student, text = parts()
    start_latte(student, text, bundle)
    assert start_turbo(student, bundle)  # of the folder's own transformer: the folder's turbo
    for name, tensor in student.state_dict().items():
        assert torch.allclose(tensor, fast[name], atol=1e-6), name
    later, _ = parts()  # another teacher: the same difference
    teacher = {name: tensor.clone() for name, tensor in later.state_dict().items()}
    assert start_turbo(later, bundle)
    for name, tensor in later.state_dict().items():
        assert torch.allclose(tensor - teacher[name], fast[name] - slow[name], atol=1e-6), name


def test_turbo_of_a_folder_without_one_starts_as_its_teacher(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "slow", ignore=shutil.ignore_patterns("transformer_turbo"))
    student, _ = parts()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert not start_turbo(student, tmp_path / "slow")
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    data = tiny_recipe_data()
    data["transformer"] |= {"hidden_size": 64}
    with pytest.raises(ConfigError, match="other sizes"):
        start_turbo(Latte(parse_recipe(data).transformer), bundle)


def test_video_stage_starts_from_a_folder(bundle, tmp_path):
    recipe = parse_recipe(tiny_recipe_data())
    run = stages.Run(recipe, tmp_path, {"device": "cpu", "learning_rate": 0.0}, False, bundle)
    stages.encode_world(run)  # with the folder's autoencoder
    stages.train_text_to_video(run, "video")
    average = load_state(tmp_path / "video")
    theirs = load_transformer(bundle / "transformer", torch.float32).state_dict()
    for name, tensor in theirs.items():
        assert torch.allclose(average[f"latte.{name}"], tensor, atol=1e-6), name


def test_autoencoder_starts_only_from_its_own_shape(bundle, tmp_path):
    shape = parse_recipe(tiny_recipe_data()).autoencoder.shape
    vae = new_vae(shape)
    assert start_vae(vae, bundle)
    assert torch.equal(vae.encoder.conv_in.weight, load_vae(bundle / "vae").encoder.conv_in.weight)
    assert vae.config.scaling_factor == load_vae(bundle / "vae").config.scaling_factor != 1
    wider = replace(shape, block_out_channels=(8, 16, 16, 16))
    assert not start_vae(new_vae(wider), bundle)
    copy_vae(bundle, tmp_path)
    assert (tmp_path / "vae" / "config.json").is_file()


def test_decoder_learns_under_latents_that_stay(bundle, tmp_path):
    data = tiny_recipe_data()
    data["autoencoder"] |= {"learns": "decoder", "subject_weight": 4.0}
    run = stages.Run(parse_recipe(data), tmp_path, {"device": "cpu"}, False, bundle)
    stages.train_autoencoder(run)
    theirs, ours = load_vae(bundle / "vae"), load_vae(tmp_path / "vae")
    frames = stages.autoencoder_task(run).batches[0].pixels
    with torch.no_grad():
        before, after = (encode_frames(vae, frames) for vae in (theirs, ours))
        assert torch.allclose(before, after, atol=1e-5)  # scaled as before, too
        assert not torch.allclose(theirs.decode(before).sample, ours.decode(before).sample)
    with pytest.raises(ConfigError, match="--start-from a folder with an autoencoder"):
        stages.autoencoder_task(replace(run, start_from=None))
