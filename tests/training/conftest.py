"""A whole tiny run, made once for the tests that need its folder."""

import pytest
from tiny_training import tiny_recipe_data

from latte_core.training import stages
from latte_core.training.bundle import write_bundle
from latte_core.training.recipe import parse_recipe


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The model folder that a run of the tiny recipe ends in."""
    folder = tmp_path_factory.mktemp("run")
    recipe = parse_recipe(tiny_recipe_data())
    run = stages.Run(recipe, folder, {"device": "cpu"})
    stages.train_autoencoder(run)
    stages.encode_world(run)
    stages.train_text_to_video(run, "stills")
    stages.train_text_to_video(run, "motion")
    stages.train_text_to_video(run, "video")
    stages.train_turbo(run)
    write_bundle(recipe, folder, folder / "model")
    return folder / "model"
