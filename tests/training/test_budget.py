"""A recipe fits into a number of minutes: shares follow what each stage takes here."""

import time
from dataclasses import replace

import pytest
from tiny_training import tiny_recipe_data

from latte_core import checkpoints, cli
from latte_core.errors import ConfigError
from latte_core.training import stages
from latte_core.training.budget import LEAST_CLIPS, measure, plan_budget
from latte_core.training.recipe import parse_recipe

SECONDS = {
    "autoencoder": 0.3,
    "clips": 0.1,
    "stills": 0.2,
    "motion": 0.3,
    "video": 0.3,
    "turbo": 0.2,
    "probe": 0.1,
}


def recipe_of():
    data = tiny_recipe_data()
    data["autoencoder"]["clips"] = 100
    for name in ("autoencoder", "stills", "motion", "video", "turbo", "probe"):
        data[name]["loop"]["steps"] = 100
    return parse_recipe(data)


def test_shares_are_what_the_stages_take():
    budget = plan_budget(recipe_of(), SECONDS, 1.5)
    assert sum(budget.minutes.values()) == pytest.approx(1.5)
    assert budget.minutes["video"] == pytest.approx(0.3)
    assert budget.minutes["clips"] == pytest.approx(0.1)
    assert budget.clips == 60
    slow_video = plan_budget(recipe_of(), {**SECONDS, "video": 6.0}, 1.5)
    assert slow_video.minutes["video"] > 1.2


def test_a_long_budget_is_not_filled():
    budget = plan_budget(recipe_of(), SECONDS, 100)
    assert sum(budget.minutes.values()) == pytest.approx(150 / 60)
    assert budget.clips == 100


def test_a_few_clips_are_always_encoded():
    assert plan_budget(recipe_of(), SECONDS, 0.001).clips == LEAST_CLIPS


@pytest.mark.parametrize("minutes", [0, -1])
def test_no_time_is_refused(minutes):
    with pytest.raises(ConfigError, match="above 0"):
        plan_budget(recipe_of(), SECONDS, minutes)


def test_budget_sets_a_stages_minutes(tmp_path):
    budget = plan_budget(recipe_of(), SECONDS, 1.5)
    run = stages.Run(recipe_of(), tmp_path, {"device": "cpu"})
    video, encoding = budget.apply(run, "video"), budget.apply(run, "clips")
    assert video.changes == {"device": "cpu", "minutes": budget.minutes["video"]}
    assert encoding.changes == {"device": "cpu"}
    assert encoding.recipe.autoencoder.clips == 60


def test_measured_seconds_tell_slow_stages_from_fast(tmp_path):
    data = tiny_recipe_data()
    data["video"] |= {"clips": 64, "images": 1}
    data["stills"] |= {"images": 1}
    run = stages.Run(parse_recipe(data), tmp_path, {"device": "cpu"})
    seconds = measure(run)
    assert set(seconds) == set(SECONDS)
    assert all(value > 0 for value in seconds.values())
    assert seconds["video"] > 2 * seconds["stills"]  # 1024 frames beside one
    assert list(tmp_path.iterdir()) == []


def test_all_stages_end_in_a_folder_within_minutes(tmp_path, monkeypatch):
    import json

    data = tiny_recipe_data()
    for name in ("autoencoder", "stills", "motion", "video", "turbo", "probe"):
        data[name]["loop"]["steps"] = 100_000  # the clock ends it
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(data))
    monkeypatch.setattr("latte_core.training.budget.LEAST_CLIPS", 4)
    began = time.monotonic()
    line = ["train", str(path), "--folder", str(tmp_path / "run"), "--device", "cpu"]
    assert cli.main([*line, "--minutes", "0.1", "--out", str(tmp_path / "model")]) == 0
    assert time.monotonic() - began < 240
    manifest = checkpoints.read_manifest(tmp_path / "model")
    checkpoints.verify_folder(tmp_path / "model", manifest)
    assert replace(manifest.defaults, fps=8).num_frames == 16
