"""What an engine promises: events, results, seeds, modes. All on the tiny random model."""

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_folder import FRAMES, SIZE
from tiny_requests import PROMPT, WAIT_S, ask, same

from latte_core import (
    Decoding,
    Encoded,
    Engine,
    Finished,
    GenerationRequest,
    Loading,
    RequestError,
    Step,
)
from latte_core.diffusion.guidance import pair_prompts
from latte_core.diffusion.schedulers import SCHEDULERS
from latte_core.engine import parts as parts_module


def test_events_come_in_order_and_complete(engine):
    events = list(engine.stream(ask()))
    assert [type(event) for event in events] == (
        [Step, Encoded] + [Step] * 4 + [Decoding] * FRAMES + [Finished]
    )
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.index, step.total) for step in steps] == [(index, 4) for index in range(5)]
    assert [step.eta_s is None for step in steps] == [True, True, False, False, False]
    assert steps[-1].eta_s == 0
    assert all(step.seconds > 0 for step in steps[1:])
    frames = [event.index for event in events if isinstance(event, Decoding)]
    assert frames == list(range(1, FRAMES + 1))


def test_previews_are_small_frames_that_move_from_noise_to_picture(engine):
    steps = [event for event in engine.stream(ask()) if isinstance(event, Step)]
    for step in steps:
        assert step.preview.shape == (FRAMES, SIZE // 8, SIZE // 8, 3)
        assert step.preview.dtype == np.uint8
        assert step.stills.shape == (0, SIZE // 8, SIZE // 8, 3)
    assert not np.array_equal(steps[0].preview, steps[-1].preview)
    other = next(e for e in engine.stream(ask(seed=8)) if isinstance(e, Step))
    assert not np.array_equal(other.preview, steps[0].preview)


def test_the_last_preview_shows_the_final_latents(engine):
    from latte_core.checkpoints import sd1_preview
    from latte_core.components.preview import preview_frames

    *_, last, finished = [
        event for event in engine.stream(ask()) if isinstance(event, (Step, Finished))
    ]
    latents = torch.from_numpy(finished.generation.latents[0])
    expected = preview_frames(latents, sd1_preview())
    # DDIM's last step lands on the estimate itself.
    assert np.abs(last.preview.astype(int) - expected).max() <= 1


def test_generation_has_the_promised_shapes_and_a_recipe(engine):
    made = engine.generate(ask(mode="joint", num_images=3))
    assert made.frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert made.frames.dtype == np.uint8
    assert [still.shape for still in made.stills] == [(SIZE, SIZE, 3)] * 3
    for array in (made.latents, made.initial_latents):
        assert array.shape == (1, 4, FRAMES, SIZE // 8, SIZE // 8)
        assert array.dtype == np.float32
    assert abs(made.initial_latents.std() - 1) < 0.05
    assert (made.seed, made.fps) == (7, 8)
    assert set(made.timings) == {"encode_s", "denoise_s", "decode_s", "total_s"}
    assert made.recipe["model_hash"] == engine.describe().model_hash
    assert made.recipe["model"] == "tiny-latte"
    fields = {name: made.recipe[name] for name in ask().to_dict()}
    again = engine.generate(GenerationRequest(**fields))
    assert same(made, again)


def test_other_sizes_run(engine):
    made = engine.generate(ask(height=32, width=96))
    assert made.frames.shape == (FRAMES, 32, 96, 3)


def test_describe_says_what_was_chosen(engine):
    info = engine.describe()
    assert info.model == "tiny-latte"
    assert info.device == "cpu"
    assert "resident on cpu" in info.plan
    assert "GiB" in info.plan
    assert info.clip_lengths == (1, *range(FRAMES, 65))
    assert info.tempos == ("steady", "stretch")
    assert info.schedulers == tuple(SCHEDULERS)
    defaults = info.defaults
    assert (defaults.num_inference_steps, defaults.guidance_scale) == (50, 7.5)
    assert (defaults.height, defaults.width, defaults.fps) == (SIZE, SIZE, 8)
    assert defaults.num_frames == FRAMES


def test_loading_is_told_in_stages(tiny_folder):
    told = []
    Engine.load(tiny_folder, on_progress=told.append).close()
    assert all(isinstance(event, Loading) for event in told)
    assert [event.fraction for event in told] == sorted(event.fraction for event in told)
    assert told[-1].fraction == 1
    stages = [event.stage for event in told]
    for stage in ("verify", "plan", "text_encoder", "transformer", "vae", "ready"):
        assert stage in stages


def test_same_seed_same_bytes_across_runs_and_engines(engine, tiny_folder):
    first = engine.generate(ask())
    engine.generate(ask("a blue cow jumps", seed=1, mode="joint"))
    assert same(first, engine.generate(ask()))
    with Engine.load(tiny_folder) as other:
        assert same(first, other.generate(ask()))
    assert not same(first, engine.generate(ask(seed=8)))
    assert not same(first, engine.generate(ask("a blue cow")))


def test_same_bytes_when_many_threads_ask_at_once(engine):
    requests = [ask(seed=seed, scheduler=name) for seed in (1, 2) for name in ("ddim", "unipc")]
    alone = [engine.generate(request) for request in requests]
    made = [None] * len(requests)

    def work(index):
        made[index] = engine.generate(requests[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert all(map(same, alone, made))


@pytest.mark.parametrize("memory", ["offload", "resident"])
def test_same_bytes_with_and_without_offload(engine, tiny_folder, memory):
    with Engine.load(tiny_folder, memory=memory) as other:
        assert f"{memory} on cpu" in other.describe().plan
        assert same(engine.generate(ask()), other.generate(ask()))


def test_seed_is_drawn_when_none_is_given(engine):
    made = engine.generate(ask(seed=None, num_inference_steps=1))
    assert 0 <= made.seed < 2**32
    assert made.recipe["seed"] == made.seed


def test_a_negative_prompt_counts_in_full(engine):
    plain = engine.generate(ask())
    negative = engine.generate(ask(negative_prompt="blurry"))
    # Longer than the prompt itself: stock would cut it to the prompt's length.
    long = " ".join(["blurry night"] * 8)
    assert not np.array_equal(plain.latents, negative.latents)
    whole = engine.generate(ask("a cow", negative_prompt=long + " snow"))
    cut = engine.generate(ask("a cow", negative_prompt=long))
    assert not np.allclose(whole.latents, cut.latents, rtol=1e-3)


def test_padding_behind_the_mask_changes_nothing(engine):
    """The prompt's half of a padded pair equals the prompt alone."""
    parts = engine._pipeline.parts
    prompt = parts.text.encode(PROMPT)
    pair = pair_prompts(prompt, parts.text.encode("blurry " * 20), 7.5)
    latents = torch.randn(1, 4, FRAMES, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([500])
    with torch.no_grad():
        alone = parts.transformer(latents, times, prompt_embeds=prompt)
        both = parts.transformer(
            latents.expand(2, -1, -1, -1, -1),
            times.expand(2),
            prompt_embeds=pair.embeds,
            prompt_attention_mask=pair.mask,
        )
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[:1], alone, rtol=1e-2)


def test_the_text_encoder_runs_once_a_prompt(tiny_folder, monkeypatch):
    from latte_core.components.text_encoder import TextEncoder

    calls = Counter()
    encode, encode_null = TextEncoder.encode, TextEncoder.encode_null
    monkeypatch.setattr(
        TextEncoder, "encode", lambda self, text: (calls.update([text]), encode(self, text))[1]
    )
    monkeypatch.setattr(
        TextEncoder,
        "encode_null",
        lambda self, n: (calls.update(["null"]), encode_null(self, n))[1],
    )
    with Engine.load(tiny_folder) as engine:
        for _ in range(2):
            engine.generate(ask(num_inference_steps=1))
        engine.generate(ask("a blue cow", num_inference_steps=1))
    assert set(calls.values()) == {1}
    assert len(calls) == 3


@pytest.mark.parametrize("scheduler", ["ddim", "euler-a", "ddpm"])
def test_joint_clip_is_bit_equal_to_the_clip_alone(engine, scheduler):
    alone = engine.generate(ask(scheduler=scheduler))
    joint = engine.generate(ask(scheduler=scheduler, mode="joint", num_images=3))
    assert np.array_equal(joint.frames, alone.frames)
    assert np.array_equal(joint.latents, alone.latents)


def test_stills_start_from_the_clips_first_frames(engine):
    joint = next(e for e in engine.stream(ask(mode="joint", num_images=4)) if isinstance(e, Step))
    assert joint.index == 0
    assert np.array_equal(joint.stills, joint.preview[:4])
    image = next(e for e in engine.stream(ask(mode="image", num_images=4)) if isinstance(e, Step))
    assert np.array_equal(image.stills, joint.stills)
    assert len(image.preview) == 0


@pytest.mark.parametrize("scheduler", ["ddim", "kdpm2-a"])
def test_a_still_is_the_same_alone_among_others_and_beside_a_clip(engine, scheduler):
    options = {"scheduler": scheduler}
    one = engine.generate(ask(mode="image", **options))
    four = engine.generate(ask(mode="image", num_images=4, **options))
    joint = engine.generate(ask(mode="joint", num_images=4, **options))
    assert np.array_equal(one.stills[0], four.stills[0])
    assert all(map(np.array_equal, four.stills, joint.stills))
    assert len({still.tobytes() for still in four.stills}) == 4
    assert one.frames.shape == (1, SIZE, SIZE, 3)
    assert np.array_equal(one.frames[0], one.stills[0])
    assert one.latents.shape[2] == 1


def test_image_mode_may_make_more_stills_than_the_clip_has_frames(engine):
    made = engine.generate(ask(mode="image", num_images=8, num_frames=1, num_inference_steps=2))
    assert len({still.tobytes() for still in made.stills}) == 8


def test_half_precision_parts_work_together(engine, tiny_folder, monkeypatch):
    """T5 in bf16, transformer and autoencoder in fp16, as on CUDA: no dtype meets another."""
    choose = parts_module.choose_plan

    def choose_half(*args, **options):
        dtypes = {"text_dtype": "bfloat16"}
        dtypes |= dict.fromkeys(("transformer_dtype", "vae_dtype"), "float16")
        return replace(choose(*args, **options), **dtypes)

    monkeypatch.setattr(parts_module, "choose_plan", choose_half)
    request = ask(mode="joint", num_images=1, negative_prompt="blurry snow", guidance_scale=2.0)
    exact = engine.generate(request)
    with Engine.load(tiny_folder) as half:
        made = half.generate(request)
    assert made.latents.dtype == np.float32
    assert np.array_equal(made.initial_latents, exact.initial_latents)
    error = np.linalg.norm(made.latents - exact.latents) / np.linalg.norm(exact.latents)
    assert 0 < error < 0.05
    assert np.abs(made.frames.astype(int) - exact.frames).mean() < 8


def test_readers_keep_their_own_torch_state(engine):
    """The model runs without gradients; the thread that reads the events still has them."""
    for _ in engine.stream(ask()):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    weight = torch.ones(1, requires_grad=True)
    assert (weight * 2).requires_grad


def test_sizes_that_cut_a_patch_are_refused(engine, monkeypatch):
    parts = engine._pipeline.parts
    monkeypatch.setattr(type(parts), "size_multiple", 32)
    with pytest.raises(RequestError, match="multiple of 32") as caught:
        engine.submit(ask(width=48))
    assert caught.value.field == "width"


def test_modes_that_the_model_lacks_are_refused(engine, monkeypatch):
    monkeypatch.setattr(type(engine._pipeline.parts), "modes", ("video",))
    with pytest.raises(RequestError, match="this model has: video") as caught:
        engine.submit(ask(mode="joint"))
    assert caught.value.field == "mode"
