"""Configurations: the published ones, what is refused, what the data fill in."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from tiny_clips import MadeUpClips

from latte_core.errors import ConfigError
from latte_core.model import Latte
from latte_core.training import config as config_module
from latte_core.training.config import (
    DataConfig,
    ModelChoice,
    TrainingConfig,
    load_config,
    parse_config,
    write_config,
)
from latte_core.training.diffusion import Frozen
from latte_core.training.networks import new_shape

CONFIGS = Path(__file__).parents[2] / "assets" / "configs"
# Reference: the released training settings; clip_after for video alone and for joint training.
CLIPPED = {
    "faceforensics": (20_000, 500_000),
    "skytimelapse": (20_000, 20_000),
    "taichi-hd": (500_000, 500_000),
    "ucf101": (100_000, 100_000),
}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("name", CLIPPED)
def test_published_recipe(name, joint):
    config = load_config(CONFIGS / f"{name}{'-joint' if joint else ''}.json")
    data, loop = config.data, config.loop
    assert (data.kind, data.num_frames, data.stride, data.size) == (name, 16, 3, 256)
    assert (data.batch_size, data.images) == ((4, 8) if joint else (5, 0))
    assert data.posterior == "sample"
    assert (loop.learning_rate, loop.weight_decay, loop.beta2) == (1e-4, 0.0, 0.999)
    assert (loop.warmup_steps, loop.decay_share) == (0, 0.0)
    assert (loop.ema_decay, loop.ema_warmup) == (0.9999, False)
    assert (loop.clip_norm, loop.clip_after) == (0.1, CLIPPED[name][joint])
    assert (loop.steps, loop.precision, loop.seed) == (1_000_000, "fp32", 3407)
    assert (config.objective.prediction, config.objective.timesteps) == ("epsilon", "uniform")
    assert config.objective.drop == 0.1
    assert (config.result.scheduler, config.result.num_inference_steps) == ("ddpm", 250)
    clips = MadeUpClips(side=32, classes=tuple(map(str, range(101))))
    shape = new_shape(config, clips, Frozen())
    with torch.device("meta"):
        count = Latte(shape).num_parameters
    # Reference: Latte-XL/2 has 673.68 M parameters; UCF101 adds a table of 102 labels.
    labels = 102 * 1152 if name == "ucf101" else 0
    assert round((count - labels) / 1e6, 2) == 673.68
    assert shape.num_classes == (101 if name == "ucf101" else 0)
    assert (shape.sample_size, shape.num_frames, shape.images) == (32, 16, "bypass")


@pytest.mark.parametrize("name", ["lora-latte-1", "lora-latte-world"])
def test_lora_recipe(name):
    config = load_config(CONFIGS / f"{name}.json")
    assert config.lora is not None
    assert config.data.kind == "folder"


def test_every_shipped_configuration_is_tested():
    joint = [name + "-joint" for name in CLIPPED]
    names = {*CLIPPED, *joint, "lora-latte-1", "lora-latte-world"}
    assert {path.stem for path in CONFIGS.glob("*.json")} == names


def test_written_configuration_reads_back(tmp_path):
    config = load_config(CONFIGS / "lora-latte-1.json")
    write_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


def minimal(**changes):
    return {"name": "m", "data": {"kind": "folder", "root": "clips"}, **changes}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colour": 1}, "colour"),
        ({"data": {"kind": "folder", "root": "x", "colour": 1}}, r"\.data has unknown.*colour"),
        ({"loop": {"colour": 1}}, "colour"),
        ({"data": {"root": "x"}}, "lacks kind"),
        ({"data": {"kind": "films", "root": "x"}}, "'films'; it has to be 'world', 'folder'"),
        ({"data": {"kind": "folder"}}, "needs the folder"),
        ({"data": {"kind": "world", "root": "x"}}, "'world' has none"),
        ({"data": {"kind": "folder", "root": "x", "images": -1}}, "images is -1"),
        ({"data": {"kind": "folder", "root": "x", "batch_size": "5"}}, "'5'.*a whole number"),
        ({"loop": {"learning_rate": "fast"}}, "'fast'; it has to be a number"),
        ({"loop": {"compile": 1}}, "true or false"),
        ({"sheet": {"prompts": "a cat"}}, "a list"),
        ({"lora": {"rank": 4}}, "start.path"),
        ({"lora": {"rank": 0}, "start": {"path": "x"}}, "rank of 1"),
        ({"model": {"preset": "XL/2"}, "start": {"path": "x"}}, "leave one of them out"),
        ({"model": 3}, "an object"),
    ],
)
def test_wrong_settings_are_named(changes, told):
    with pytest.raises(ConfigError, match=told):
        parse_config(minimal(**changes))


def test_what_the_data_decide_is_filled_in_unless_given():
    config = parse_config(minimal(model={"preset": "S/2", "fields": {"conditioning": "class"}}))
    shape = new_shape(config, MadeUpClips(side=6), Frozen())
    assert (shape.num_frames, shape.sample_size, shape.in_channels) == (16, 6, 4)
    assert (shape.out_channels, shape.num_classes, shape.hidden_size) == (8, 3, 384)
    given = {"conditioning": "class", "num_classes": 7, "num_frames": 8, "out_channels": 4}
    other = replace(config, model=ModelChoice("S/2", given))
    shape = new_shape(other, MadeUpClips(), Frozen())
    assert (shape.num_classes, shape.num_frames, shape.out_channels) == (7, 8, 4)
    text = replace(config, model=ModelChoice("S/2", {"conditioning": "text"}))
    assert new_shape(text, MadeUpClips(), Frozen()).caption_channels == 20
    plain = {"hidden_size": 24, "depth": 2, "num_heads": 2, "variant": 3}
    assert new_shape(replace(config, model=ModelChoice(None, plain)), MadeUpClips(), Frozen())
    with pytest.raises(ConfigError, match="bricks"):
        new_shape(replace(config, model=ModelChoice("S/2", {"bricks": 1})), MadeUpClips(), Frozen())


def test_every_setting_is_documented():
    """Each key is named in its class's docstring."""
    trees = [c for c in vars(config_module).values() if isinstance(c, type)]
    for tree in trees:
        if tree.__module__ == "latte_core.training.config" or tree.__name__ == "LoopConfig":
            for field in fields(tree):
                assert field.name in tree.__doc__ or tree is TrainingConfig, (tree, field.name)
    assert DataConfig in trees


def test_configuration_and_recipe_are_told_apart_by_content(tmp_path, capsys):
    from latte_core import cli

    file = tmp_path / "c.json"
    file.write_text(json.dumps(minimal(data={"kind": "folder", "root": str(tmp_path / "none")})))
    assert cli.main(["train", str(file), "--folder", str(tmp_path / "run")]) != 0
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert cli.main(["train", str(file), "--folder", "x", "--stage", "video"]) == 2
    assert "no stages" in capsys.readouterr().err
    file.write_text(json.dumps({"name": "half a recipe"}))
    assert cli.main(["train", str(file), "--folder", str(tmp_path / "run")]) == 2
    assert "incomplete" in capsys.readouterr().err
