"""The whole recipe, tiny: every stage two steps, then a folder that stock diffusers runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core import checkpoints
from latte_core.errors import DataError
from latte_core.training.bundle import card_of, write_bundle
from latte_core.training.recipe import parse_recipe


def test_bundle_is_whole(bundle):
    manifest = checkpoints.read_manifest(bundle)
    checkpoints.check_layout(bundle)
    checkpoints.verify_folder(bundle, manifest)
    assert (manifest.defaults.num_frames, manifest.defaults.plan) == (16, "alternate")
    assert manifest.card["name"] == "tiny"


def test_stock_pipeline_runs_the_bundle(bundle):
    from diffusers import LattePipeline

    pipeline = LattePipeline.from_pretrained(bundle, torch_dtype=torch.float32)
    clip = pipeline(
        "a cat moves left at night",
        num_inference_steps=2,
        height=32,
        width=32,
        video_length=16,
        output_type="np",
        clean_caption=False,
        decode_chunk_size=4,
    ).frames[0]
    assert np.asarray(clip).shape[-3:] == (32, 32, 3)
    assert np.isfinite(np.asarray(clip)).all()


def test_card_tells_words_and_examples_in_each_language_of_the_world():
    data = tiny_recipe_data()
    told = card_of(parse_recipe(data), Path("nowhere"))
    assert told["translations"] == {} and told["examples"] == data["prompts"]
    data["world"]["languages"] = ["en", "ru"]
    data["prompts"] += ["кот идет влево ночью"]
    told = card_of(parse_recipe(data), Path("nowhere"))
    assert told["examples"] == data["prompts"][:2]
    assert told["translations"]["ru"]["examples"] == data["prompts"][2:]
    assert "кот" in told["translations"]["ru"]["vocabulary"]["subjects"]


def test_missing_stage_is_said(tmp_path):
    recipe = parse_recipe(tiny_recipe_data())
    with pytest.raises(DataError, match="train"):
        write_bundle(recipe, Path(tmp_path), tmp_path / "model")
