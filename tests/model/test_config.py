"""Presets, published parameter counts, both forms of config.json, and refusals."""

import dataclasses
import json
import logging

import diffusers
import pytest
import torch
from diffusers import LatteTransformer3DModel
from model_builders import text, tiny

from latte_core.errors import ConfigError
from latte_core.model import LATTE_1, Latte, ModelConfig, preset


def parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return Latte(config).num_parameters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S/2", 32_480_672),
        ("S/4", 32_536_064),
        ("S/8", 32_757_632),
        ("B/2", 129_547_040),
        ("B/4", 129_657_728),
        ("B/8", 130_100_480),
        ("L/2", 456_815_648),
        ("L/4", 456_963_200),
        ("L/8", 457_553_408),
        ("XL/2", 673_681_568),
        ("XL/4", 673_847_552),
        ("XL/8", 674_511_488),
    ],
)
def test_presets_have_the_parameters_of_the_released_models(name: str, expected: int) -> None:
    assert parameters(preset(name)) == expected


def test_variant_2_has_the_parameters_of_variant_1() -> None:
    assert parameters(preset("XL/2", variant=2)) == 673_681_568


def test_class_labels_add_their_table() -> None:
    config = preset("XL/2", conditioning="class", num_classes=101)
    assert parameters(config) == 673_799_072


def test_variant_3_has_the_published_count_at_23_blocks() -> None:
    assert preset("XL/2", variant=3).depth == 23
    assert abs(parameters(preset("XL/2", variant=3)) - 676.33e6) < 0.1e6
    assert abs(parameters(preset("XL/2", variant=3, depth=28)) - 676.33e6) > 100e6


def test_variant_4_in_both_readings() -> None:
    assert parameters(preset("XL/2", variant=4)) == 673_713_824
    assert abs(parameters(preset("XL/2", variant=4, sum_heads="full")) - 676.44e6) < 0.1e6


def test_latte_1_has_the_public_size() -> None:
    assert parameters(LATTE_1) == 1_057_246_880


def test_t2v_json_is_what_diffusers_builds_from(caplog: pytest.LogCaptureFixture) -> None:
    data = json.loads(json.dumps(text().to_json()))
    diffusers.utils.logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            stock = LatteTransformer3DModel.from_config(data)
            assert not caplog.records, "a stock user should meet no warning"
            LatteTransformer3DModel.from_config(data | {"unknown": 1})
            assert caplog.records, "control: diffusers does warn of unknown keys"
    finally:
        diffusers.utils.logging.disable_propagation()
    assert stock.config.video_length == 4
    assert stock.config.num_layers == 2
    assert stock.config.attention_head_dim == 12


@pytest.mark.parametrize(
    "config",
    [
        text(),
        text(images="length_one", out_channels=4),
        text(injection="adaln_zero"),
        tiny(variant=4, depth=3, sum_heads="full", temporal_positions="rope"),
        tiny(conditioning="class", num_classes=3, patch_frames=2, injection="all_tokens"),
    ],
)
def test_config_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_stock_config_is_read_as_latte_1() -> None:
    data = LATTE_1.to_json()
    assert data.pop("_latte_images") == "length_one"
    extras = {"_class_name": "LatteT2V", "attention_type": "default", "upcast_attention": False}
    assert ModelConfig.from_json(data | extras) == LATTE_1


@pytest.mark.parametrize(
    ("fields", "text_of_error"),
    [
        ({"depth": 5}, "depth is 5"),
        ({"num_heads": 5}, "48 is not a multiple of num_heads 5"),
        ({"hidden_size": 50, "num_heads": 5}, "50 is not a multiple of 4"),
        ({"variant": 5}, "variant is 5"),
        ({"variant": 4, "num_heads": 3}, "num_heads is 3"),
        ({"temporal_positions": "rope", "num_heads": 16}, "head width 3 is odd"),
        ({"out_channels": 5}, "out_channels is 5"),
        ({"sample_size": 9}, "sample_size 9"),
        ({"patch_frames": 3}, "num_frames 4"),
        ({"conditioning": "class"}, "num_classes is 0"),
        ({"num_classes": 3}, "num_classes is 3"),
        ({"conditioning": "text"}, "caption_channels is 0"),
        ({"injection": "film"}, "injection is 'film'"),
        ({"hidden_size": 48.0}, "hidden_size is 48.0"),
        ({"depth": True}, "depth is True"),
        ({"num_frames": 0}, "num_frames is 0"),
    ],
)
def test_impossible_configs_are_refused_by_name(fields: dict, text_of_error: str) -> None:
    with pytest.raises(ConfigError, match=text_of_error):
        tiny(**fields)


def test_unknown_names_are_refused() -> None:
    for name in ("M/2", "XL/3", "XL", ""):
        with pytest.raises(ConfigError, match="sizes are S, B, L, XL"):
            preset(name)
    with pytest.raises(ConfigError, match="Unknown model settings: width"):
        preset("S/2", width=3)
    with pytest.raises(ConfigError, match="Unknown model settings: width"):
        ModelConfig.from_json({"hidden_size": 48, "depth": 2, "num_heads": 4, "width": 3})
    with pytest.raises(ConfigError, match="lacks depth"):
        ModelConfig.from_json({"hidden_size": 48, "num_heads": 4})


@pytest.mark.parametrize(
    ("change", "text_of_error"),
    [
        ({"activation_fn": "geglu"}, "activation_fn is 'geglu'"),
        ({"attention_bias": False}, "attention_bias is False"),
        ({"cross_attention_dim": 64}, "cross_attention_dim is 64"),
        ({"num_layers": "two"}, "num"),
        ({"video_length": None}, "num_frames is None"),
    ],
)
def test_foreign_t2v_options_are_refused(change: dict, text_of_error: str) -> None:
    with pytest.raises(ConfigError, match=text_of_error):
        ModelConfig.from_json(text().to_json() | change)
    broken = text().to_json()
    del broken["sample_size"]
    with pytest.raises(ConfigError, match="sample_size"):
        ModelConfig.from_json(broken)


def test_config_is_a_value() -> None:
    assert dataclasses.replace(tiny(), depth=6).depth == 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().depth = 6
