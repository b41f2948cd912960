"""A run of a world with compositions, from its clips to a folder and a probe that know them."""

from dataclasses import replace

import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core import Encoded, Engine, GenerationRequest, checkpoints, cli
from latte_core.data.latents import load_clips
from latte_core.errors import ConfigError
from latte_core.evaluation.probe import WorldProbe, load_probe, save_probe
from latte_core.training import stages
from latte_core.training.bundle import write_bundle
from latte_core.training.recipe import parse_recipe

PROMPT = "a cat moves left and a rocket moves right by day in a meadow the camera pans left"


@pytest.fixture(scope="module")
def run(bundle, tmp_path_factory):
    """It starts from a folder of the same widths that knows none of the compositions' words."""
    data = tiny_recipe_data()
    data["world"] |= {
        "scenes": ["plain", "night", "meadow"],
        "compositions": ["pair", "camera", "light"],
    }
    data["autoencoder"]["clips"] = 40
    run = stages.Run(
        parse_recipe(data),
        tmp_path_factory.mktemp("composed"),
        {"device": "cpu"},
        start_from=bundle,
    )
    stages.encode_world(run)
    stages.train_text_to_video(run, "video")
    write_bundle(run.recipe, run.folder, run.folder / "model")
    return run


def test_clips_on_disk_keep_their_compositions(run):
    specs = load_clips(run.folder / "clips.safetensors").specs
    for composition in run.recipe.world.compositions:
        assert any(spec.has(composition) for spec in specs)


def test_folder_knows_the_words_and_names_their_kind(run):
    card = checkpoints.read_manifest(run.folder / "model").card
    assert {"and", "the camera pans left", "at night"} <= set(card["vocabulary"]["compositions"])
    with Engine.load(str(run.folder / "model"), device="cpu") as engine:
        events = list(engine.stream(GenerationRequest(PROMPT, seed=1)))
    told = next(event for event in events if isinstance(event, Encoded))
    assert told.unknown_words == ()


def test_probe_of_it_is_evaluated_by_composition(run, bundle, capsys):
    stages.train_probe(run)
    path = run.folder / "probe.safetensors"
    assert load_probe(path).world == run.recipe.world
    line = ["evaluate", "--model", str(run.folder / "model"), "--probe", str(path)]
    line += ["--prompts", "2", "--compose", "pair"]
    assert cli.main([*line, "--plan", "alternate"]) == 0
    assert "| clips | n | subject | motion | scene |" in capsys.readouterr().out
    assert cli.main([*line, "--plan", "never-found"]) != 0
    assert "never-found" in capsys.readouterr().err


def test_a_probe_learns_what_is_new_and_nothing_else(run, tmp_path):
    recipe = replace(run.recipe, probe=replace(run.recipe.probe, learns="new"))
    torch.manual_seed(5)
    old = WorldProbe(recipe.world.plainly, recipe.probe.width)
    save_probe(old, tmp_path / "old.safetensors")
    going_on = replace(
        run, recipe=recipe, folder=tmp_path / "run", start_from=tmp_path / "old.safetensors"
    )
    stages.train_probe(going_on)
    before = load_probe(tmp_path / "old.safetensors").state_dict()
    after = load_probe(tmp_path / "run" / "probe.safetensors").state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not torch.equal(after["heads.half subject.weight"], before["heads.subject.weight"])
    with pytest.raises(ConfigError, match=r"probe\.learns.*--start-from"):
        stages.train_probe(replace(going_on, folder=tmp_path / "none", start_from=None))
    knows_all = replace(going_on, start_from=tmp_path / "run" / "probe.safetensors")
    with pytest.raises(ConfigError, match=r"probe\.learns"):
        stages.train_probe(replace(knows_all, folder=tmp_path / "again"))
