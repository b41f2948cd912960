"""Studies: arms that differ in one thing are trained alike, judged on unseen clips, compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core import cli
from latte_core.errors import ConfigError
from latte_core.training import study
from latte_core.training.recipe import parse_recipe
from latte_core.training.stages import make_text_encoder, new_text_to_video

STUDIES = sorted((Path(study.__file__).parents[2] / "assets/configs/studies").glob("*.json"))


def write_study(folder, arms, **fields):
    """A study of the tiny recipe, as files; returns its path."""
    (folder / "recipe.json").write_text(json.dumps(tiny_recipe_data()))
    data = {
        "name": "tiny",
        "title": "Tiny",
        "question": "Does it matter?",
        "paper": "The paper says so.",
        "recipe": "recipe.json",
        "held_out": 5,
        "changes": {"video": {"loop": {"steps": 3}}},
        "arms": [{"name": name, "changes": changes} for name, changes in arms.items()],
        **fields,
    }
    path = folder / "study.json"
    path.write_text(json.dumps(data))
    return path


def test_changes_are_laid_over_objects_and_replace_the_rest():
    tree = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    changed = study.lay_over(tree, {"a": {"c": [3]}, "e": {"f": 5}})
    assert changed == {"a": {"b": 1, "c": [3]}, "d": 4, "e": {"f": 5}}
    assert tree == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_there_are_studies_of_the_papers_questions():
    assert {path.stem for path in STUDIES} >= {
        *("variants", "joint", "injection", "positions", "patches")
    }


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_arm_of_a_shipped_study_can_be_built_and_differs(path):
    config, data = study.load_study(path)
    study.plan_run(config, data, path.parent, {}, path.parent)
    assert config.name == path.stem
    shapes = set()
    for arm in config.arms:
        recipe = parse_recipe(study.lay_over(study.lay_over(data, config.changes), arm.changes))
        model = new_text_to_video(recipe, make_text_encoder(recipe))
        images = recipe.video.images
        frames = recipe.transformer.num_frames
        batch = {"ids": torch.ones((1, 1 + images, 4), dtype=torch.long)}
        batch["mask"] = batch["reads"] = torch.ones_like(batch["ids"])
        x = torch.randn(1, model.latte.config.in_channels, frames + images, 8, 8)
        assert model(x, torch.tensor([500]), batch, images).shape[2] == frames + images
        shapes.add((recipe.transformer, recipe.video))
    assert len(shapes) == len(config.arms)


def test_equal_arms_are_equal_and_an_arm_that_learns_nothing_is_worse(bundle, tmp_path, capsys):
    quick = {"warmup_steps": 1, "learning_rate": 0.01, "ema_decay": 0.0}
    stand_still = {"video": {"loop": {"learning_rate": 0.0}}}
    path = write_study(
        tmp_path,
        {"one": {}, "same": {}, "idle": stand_still},
        changes={"video": {"loop": quick}},
    )
    out = tmp_path / "results" / "tiny.json"
    line = ["study", str(path), "--folder", str(tmp_path / "run"), "--model", str(bundle)]
    line += ["--device", "cpu", "--out", str(out), "--steps", "12"]
    assert cli.main(line) == 0
    result = json.loads(out.read_text())
    assert result["format"] == 1 and result["steps"] == 12 and result["clips_seen"] == 24
    one, same, idle = result["arms"]
    assert same["value"] == one["value"] and same["difference"] == 0
    assert idle["difference"] > 0 and idle["difference_low"] <= idle["difference"]
    assert one["low"] <= one["value"] <= one["high"] and one["parameters"] > 0
    assert "| idle |" in capsys.readouterr().out
    assert cli.main(line) == 0  # goes on from what is there: nothing is left to train
    assert json.loads(out.read_text())["arms"][0]["value"] == one["value"]


def test_the_error_is_that_of_v(bundle, tmp_path):
    """A network that knows the answer has none; one that says nothing has that of v itself."""
    path = write_study(tmp_path, {"one": {}, "two": {}})
    config, data = study.load_study(path)
    run = study.plan_run(config, data, tmp_path / "run", {"device": "cpu"}, bundle)
    run.folder.mkdir()
    trained, judged = study._latents(run, config)
    _, task = study._train(run, run.recipe, trained, "one")

    class Silent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, at, batch, images):
            return torch.zeros_like(x)

    errors = study.held_out_errors(Silent(), task, judged)
    power = judged.latents.float().square().mean(dim=(1, 2, 3, 4)).numpy()
    signal = np.array([float(task.objective._tables["signal"][t]) for t in study.TIMESTEPS])
    wanted = np.outer(1 - signal**2, power).mean(0) + (signal**2).mean()  # v is signal·e - noise·x
    np.testing.assert_allclose(errors, wanted, rtol=0.2)
    world = run.recipe.world
    assert all(map(world.is_held_out, judged.specs))
    assert not any(map(world.is_held_out, trained.specs))


def test_intervals_hold_the_mean_and_shrink_with_more():
    rng = np.random.default_rng(0)
    few, many = rng.normal(1, 1, 20), rng.normal(1, 1, 2000)
    for values in (few, many):
        low, high = study.interval(values)
        assert low < values.mean() < high
    assert np.ptp(study.interval(many)) < 0.3 * np.ptp(study.interval(few))


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"one": {}}, "two or more"),
        ({"one": {}, "two": {"world": {}}}, "same clips"),
        ({"one": {}, "two": {"videos": {}}}, "unknown settings"),
    ],
)
def test_studies_that_cannot_be_are_refused(arms, message, bundle, tmp_path):
    path = write_study(tmp_path, arms)
    with pytest.raises(ConfigError, match=message):
        config, data = study.load_study(path)
        run = study.plan_run(config, data, tmp_path / "run", {"device": "cpu"}, bundle)
        run.folder.mkdir()
        study.run_study(run, config, data)
