"""The stock pipeline of the bench is the stock pipeline, on the engine's own tensors."""

from dataclasses import replace

import pytest
import torch
from tiny_folder import FRAMES, SIZE
from tiny_models import T2V

from latte_core.benchmark.shapes import SENTENCES, open_folder, random_bench
from latte_core.benchmark.stock import timed_call
from latte_core.benchmark.subjects import Ours, Setting, Stock
from latte_core.components.vae import VaeConfig

SMALL = replace(T2V, num_frames=8, images="length_one", caption_channels=32)
SMALL_VAE = VaeConfig((8, 8, 16, 16), 1, 4, 0.18215, 64, 4)
SMALL_T5 = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}


def settings(guidance=4.0):
    return [Setting(name, 3, guidance, "ddim", FRAMES, SIZE, SIZE) for name in ("stock", "ours")]


def test_it_equals_the_one_that_diffusers_loads(tiny_folder):
    from diffusers import LattePipeline

    loaded = LattePipeline.from_pretrained(tiny_folder, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    stock, _ = settings()
    runs = [
        Stock(pipeline, stock, None).generate("a red rocket flies", 3)
        for pipeline in (loaded, open_folder(tiny_folder, "cpu").stock)
    ]
    assert torch.equal(*(torch.from_numpy(run.latents) for run in runs))
    assert (runs[0].frames == runs[1].frames).all()


def test_it_holds_no_weights_of_its_own(tiny_folder):
    bench = open_folder(tiny_folder, "cpu")
    ours = list(bench.pipeline.parts.transformer.parameters())
    theirs = list(bench.stock.transformer.parameters())
    places = {p.untyped_storage().data_ptr() for p in ours}
    assert {p.untyped_storage().data_ptr() for p in theirs} == places
    assert sum(p.numel() for p in theirs) == sum(p.numel() for p in ours)


@pytest.mark.parametrize("t5", [SMALL_T5, None])
def test_random_weights_give_both_the_same_latents(t5):
    bench = random_bench(SMALL, SMALL_VAE, t5, "cpu", torch.float32)
    stock, ours = settings()
    theirs = Stock(bench.stock, stock, bench.embeds).generate(SENTENCES[0], 5)
    subject = Ours(bench.pipeline, ours)
    made = subject.generate(SENTENCES[0], 5)
    other = subject.generate(SENTENCES[1], 5)
    subject.engine.close()
    assert not bench.trained and "random" in bench.notes[0]
    norm = torch.linalg.norm(torch.from_numpy(theirs.latents))
    apart, far = (
        torch.linalg.norm(torch.from_numpy(run.latents - theirs.latents)) / norm
        for run in (made, other)
    )
    assert apart < 1e-6 < 1e-5 < far
    assert abs(made.frames.astype(int) - theirs.frames.astype(int)).max() <= 1


def test_stages_of_a_stock_call_add_up_and_the_methods_come_back(tiny_folder):
    bench = open_folder(tiny_folder, "cpu")
    stock, _ = settings()
    before = bench.stock.encode_prompt.__func__
    run = Stock(bench.stock, stock, None).generate("a red rocket flies", 3)
    parts = sum(run.seconds[stage] for stage in ("text", "denoise", "decode"))
    assert parts == pytest.approx(run.seconds["all"])
    assert min(run.seconds.values()) > 0
    assert bench.stock.encode_prompt.__func__ is before
    with pytest.raises(ZeroDivisionError):
        timed_call(bench.stock, lambda: 1 // 0, lambda: None)
    assert bench.stock.encode_prompt.__func__ is before
