"""Recipes: the bundled one is whole, and a wrong one is refused by name."""

import json
from pathlib import Path

import pytest
from tiny_training import tiny_recipe_data

from latte_core.data.motions import MOTIONS
from latte_core.data.scenes import SCENES
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import COMPOSITIONS
from latte_core.errors import ConfigError, DataError
from latte_core.model import Latte
from latte_core.training.recipe import load_recipe, parse_recipe
from latte_core.training.stages import make_text_encoder

WORLD = Path(__file__).parents[2] / "assets" / "world"
RECIPES = sorted(WORLD.glob("*.json"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_bundled_recipe_fits_together(path):
    recipe = load_recipe(path)
    data = json.loads(path.read_text())
    assert recipe.world.subjects == tuple(data["world"]["subjects"])
    assert recipe.video.loop.steps == data["video"]["loop"]["steps"]
    assert len(recipe.world.subjects) >= 10
    assert len(recipe.world.motions) >= 4
    factor = 2 ** (len(recipe.autoencoder.shape.block_out_channels) - 1)
    side = recipe.transformer.sample_size * factor
    assert side == recipe.size == recipe.autoencoder.shape.sample_size
    assert recipe.transformer.caption_channels == recipe.text_encoder.d_model
    assert recipe.transformer.in_channels == recipe.autoencoder.shape.latent_channels
    assert recipe.defaults.num_frames == recipe.transformer.num_frames
    assert (recipe.defaults.height, recipe.defaults.width) == (recipe.size, recipe.size)
    encoder = make_text_encoder(recipe)
    for prompt in recipe.prompts:
        assert encoder.unknown_words(prompt) == []
    assert encoder.tokenize(list(recipe.prompts))[0].shape[1] <= recipe.objective.length
    weights = sum(p.numel() for p in Latte(recipe.transformer).parameters())
    weights += sum(p.numel() for p in encoder.model.parameters())
    assert 2 * weights < 40e6  # in half precision, within what the repository may hold


def test_bundled_recipes_are_found():
    assert RECIPES


def test_the_recipe_for_a_gpu_asks_for_the_whole_world():
    world = load_recipe(WORLD / "latte-world-128.json").world
    assert set(world.subjects) == set(SUBJECTS) and len(SUBJECTS) >= 64
    assert set(world.motions) == set(MOTIONS) and len(MOTIONS) >= 12
    assert set(world.scenes) == {"plain", *SCENES}
    assert set(world.compositions) == set(COMPOSITIONS)


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("world",),
        ("autoencoder",),
        ("autoencoder", "shape"),
        ("autoencoder", "loop"),
        ("text_encoder",),
        ("transformer",),
        ("objective",),
        ("stills",),
        ("video", "loop"),
        ("probe",),
        ("defaults",),
    ],
    ids=lambda path: ".".join(path) or "top",
)
def test_unknown_settings_are_refused_everywhere(path):
    data = tiny_recipe_data()
    part = data
    for name in path:
        part = part[name]
    part["colour_of_the_bikeshed"] = 1
    with pytest.raises(ConfigError, match="colour_of_the_bikeshed"):
        parse_recipe(data)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (None, "world"),
        (None, "size"),
        ("autoencoder", "shape"),
        ("transformer", "hidden_size"),
        ("video", "clips"),
        ("defaults", "fps"),
    ],
)
def test_missing_settings_are_named(part, name):
    data = tiny_recipe_data()
    del (data[part] if part else data)[name]
    with pytest.raises(ConfigError, match=name):
        parse_recipe(data)


def test_wrong_values_are_refused():
    data = tiny_recipe_data()
    data["world"]["subjects"] = ["dragon"]
    with pytest.raises(DataError, match="dragon"):
        parse_recipe(data)
    data = tiny_recipe_data()
    data["video"]["loop"]["steps"] = 0
    with pytest.raises(ConfigError, match="steps is 0"):
        parse_recipe(data)
    for share in (-0.1, 1.5):
        data = tiny_recipe_data()
        data["video"]["pairs"] = share
        with pytest.raises(ConfigError, match=rf"pairs is {share}; .* 0\.\.1"):
            parse_recipe(data)
    for share in (-0.1, 1.5):
        data = tiny_recipe_data()
        data["autoencoder"]["mirrored"] = share
        with pytest.raises(ConfigError, match=rf"mirrored is {share}; .* 0\.\.1"):
            parse_recipe(data)
    for stage, times in (("video", 0), ("video", -2), ("video", "twice"), ("autoencoder", 0)):
        data = tiny_recipe_data()
        data[stage]["favoured"] = {"cat": times}
        with pytest.raises(ConfigError, match=rf"favoured.cat is {times!r}; .* above 0"):
            parse_recipe(data)
    for stage in ("autoencoder", "stills", "motion", "video"):
        data = tiny_recipe_data()
        data[stage]["favoured"] = {"cat": 2, "plain": 2, "dragon": 2}
        with pytest.raises(ConfigError, match=rf"{stage}\.favoured has dragon, plain, which"):
            parse_recipe(data)
    for stage, power in (("video", -0.1), ("autoencoder", 1.2)):
        data = tiny_recipe_data()
        data[stage]["contrast_power"] = power
        with pytest.raises(ConfigError, match=rf"contrast_power is {power}; .* between 0.* and 1"):
            parse_recipe(data)
    data = tiny_recipe_data()
    data["video"] = 7
    with pytest.raises(ConfigError, match="video"):
        parse_recipe(data)


def test_tiny_recipe_passes():
    recipe = parse_recipe(tiny_recipe_data())
    assert recipe.prompts[0] == "a cat moves left at night"
    assert recipe.objective.prediction == "v_prediction"
    assert recipe.stills.loop.workers == 0


def test_unreadable_recipe_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ConfigError, match="recipe"):
        load_recipe(tmp_path / "list.json")
