"""Numbers by hardware and on request: refusals with a remedy, and clips that stay near to fp32."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_plans import LATTE_1, TINY
from tiny_requests import ask

from latte_core import Engine, GenerationRequest
from latte_core.benchmark.fidelity import nearness
from latte_core.cli import main
from latte_core.engine import low_precision
from latte_core.engine import parts as parts_module
from latte_core.engine.low_precision import accumulating, in_fp8, require
from latte_core.engine.plans import GIB, choose_plan, next_plan
from latte_core.engine.precision import REFERENCE
from latte_core.errors import ConfigError
from latte_core.model import Latte, ModelConfig

WORLD = Path(__file__).resolve().parents[2] / "assets" / "latte-world"
TEXT_MODEL = ModelConfig(
    hidden_size=64,
    depth=6,
    num_heads=4,
    conditioning="text",
    injection="adaln_single",
    caption_channels=32,
)
HOST, CARD = {"cpu": 64 * GIB}, {"cpu": 64 * GIB, "cuda": 80 * GIB}


def numbers(free, precision, bf16=False, memory="auto"):
    plan = choose_plan(LATTE_1, free, memory, precision=precision, cpu_bf16_pays=bf16)
    return plan.device, plan.text_dtype, plan.transformer_dtype, plan.vae_dtype


@pytest.mark.parametrize("bf16", [False, True])
def test_the_device_chooses_and_a_word_overrules_it(bf16):
    half, single = "bfloat16", "float32"
    own = half if bf16 else single
    assert numbers(HOST, "auto", bf16) == ("cpu", own, own, own)
    assert numbers(HOST, "fp32", bf16) == ("cpu", single, single, single)
    assert numbers(HOST, "bf16", bf16) == ("cpu", half, half, half)
    assert numbers(CARD, "auto", bf16) == ("cuda", half, "float16", "float16")
    assert numbers(CARD, "bf16", bf16) == ("cuda", half, half, half)
    assert numbers(CARD, "fp32", bf16) == ("cuda", single, single, single)
    assert numbers(CARD, "fp8", bf16) == ("cuda", half, half, half)
    beside = half if bf16 else single  # T5 on the CPU of a machine that computes on its card
    assert numbers(CARD, "fp16", bf16, "text-on-cpu")[:3] == ("cuda", beside, "float16")


def test_half_the_bytes_are_half_the_memory_and_stay_so_on_the_way_down():
    exact, near = (choose_plan(TINY, HOST, precision=word) for word in ("fp32", "bf16"))
    assert near.peak_bytes == exact.peak_bytes / 2
    lower = next_plan(near, TINY, HOST)
    assert (lower.precision, lower.vae_dtype) == ("bf16", "bfloat16")


def test_a_cpu_without_the_unit_is_told_so():
    assert "no fast bf16 unit" in choose_plan(TINY, HOST, precision="bf16").sentence
    assert "unit" not in choose_plan(TINY, HOST, precision="bf16", cpu_bf16_pays=True).sentence
    assert "transformer fp8)" in choose_plan(TINY, CARD, precision="fp8").sentence


@pytest.mark.parametrize("word", ["fp16", "fp16-accumulate", "fp8"])
def test_what_a_cpu_cannot_do_is_refused_with_what_it_can(word, capsys):
    with pytest.raises(ConfigError, match="but the device is cpu: choose auto, fp32, bf16"):
        choose_plan(TINY, HOST, precision=word)
    line = ["generate", "a whale", "--device", "cpu", "--precision", word, "--quiet"]
    assert main(line) == 2 and f"precision is {word}" in capsys.readouterr().err


def test_unknown_words_are_refused_with_the_choices():
    with pytest.raises(ConfigError, match="must be one of: auto, fp32, bf16, fp16"):
        choose_plan(TINY, HOST, precision="int4")


@pytest.mark.parametrize("word,capability", [("fp8", (8, 0)), ("fp16-accumulate", (6, 1))])
def test_cards_that_are_too_old_are_refused(monkeypatch, word, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old card")
    with pytest.raises(ConfigError, match=r"an old card has .* choose fp16 or bf16"):
        require(word)


def test_fp8_without_torchao_says_what_to_install(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install torchao, or choose fp16"):
        require("fp8")
    require("fp16-accumulate")  # needs no package
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    require("fp8")


def test_fp8_takes_the_large_products_of_inner_blocks_alone():
    model = Latte(TEXT_MODEL)
    names = {id(layer): name for name, layer in model.named_modules()}
    taken = {names[id(layer)] for layer in in_fp8(model)}
    assert {name.split(".")[1] for name in taken} == {"2", "3"}
    kinds = {name.split(".", 2)[2] for name in taken}
    assert {"attn.space.qkv", "attn.time.proj", "cross.kv", "mlp.fc1", "mlp.fc2"} <= kinds
    assert not any("modulation" in name for name in kinds)


def test_sums_in_fp16_are_switched_on_for_the_run_alone():
    switches = torch.backends.cuda.matmul
    before = switches.allow_fp16_accumulation
    plans = {word: choose_plan(TINY, CARD, precision=word) for word in ("fp16", "fp16-accumulate")}
    with accumulating(plans["fp16"]):
        assert switches.allow_fp16_accumulation == before
    with pytest.raises(KeyError), accumulating(plans["fp16-accumulate"]):
        assert switches.allow_fp16_accumulation
        raise KeyError
    assert switches.allow_fp16_accumulation == before


def test_bf16_runs_every_part_in_bf16_and_the_recipe_says_so(tiny_folder, monkeypatch):
    with Engine.load(tiny_folder, device="cpu", precision="bf16") as engine:
        parts = engine._pipeline.parts
        kinds = {p.dtype for module in parts.modules().values() for p in module.parameters()}
        made = engine.generate(ask(negative_prompt="blurry snow", mode="joint", num_images=1))
    assert kinds == {torch.bfloat16}
    assert made.recipe["precision"] == "bfloat16" and made.latents.dtype == np.float32
    assert low_precision.NEEDED.keys() == {"fp16-accumulate", "fp8"}


@pytest.mark.parametrize("unit,numbers", [(False, "float32"), (True, "bfloat16")])
def test_left_alone_a_cpu_takes_bf16_if_it_has_it(tiny_folder, monkeypatch, unit, numbers):
    monkeypatch.setattr(parts_module, "cpu_bf16_pays", lambda: unit)
    with Engine.load(tiny_folder, device="cpu") as engine:
        assert numbers in engine.describe().plan
        assert engine.generate(ask()).recipe["precision"] == numbers


def test_reference_is_fp32_on_a_cpu_and_a_cards_own():
    """Also where there is a card, but the model goes to the CPU because it does not fit there."""
    full = {**CARD, "cuda": 1}
    for free, device, word in (
        (HOST, "auto", "fp32"),
        (CARD, "auto", "fp16"),
        (CARD, "cpu", "fp32"),
        (full, "auto", "fp32"),
    ):
        plan = choose_plan(TINY, free, "auto", device, True, REFERENCE)
        assert plan.precision == word
    assert choose_plan(TINY, full, "auto", "auto", True).precision == "bf16"


def test_bf16_stays_near_to_fp32_on_the_bundled_model():
    """Near-exact is a PSNR of 35 dB or more; another seed's clip is far below it."""
    asked = {"seed": 7, "num_inference_steps": 3, "height": 64, "width": 64, "plan": "full"}
    request = GenerationRequest("a whale goes left in the blue sky", **asked)
    with Engine.load(WORLD, device="cpu", precision="bf16") as engine:
        near = engine.generate(request).frames
    with Engine.load(WORLD, device="cpu", precision="fp32") as engine:
        exact, other = (engine.generate(replace(request, seed=s)).frames for s in (7, 8))
    assert nearness(near, exact).psnr >= 35
    assert nearness(other, exact).psnr < 30
