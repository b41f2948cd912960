"""What an engine promises: seeds, modes, stops, errors. All on the tiny random model."""

import threading
from collections import Counter

import numpy as np
import pytest
import torch
from tiny_folder import FRAMES, SIZE, write_tiny_folder

from latte_core import (
    Cancelled,
    CheckpointError,
    Decoding,
    Encoded,
    Engine,
    EngineBusyError,
    Finished,
    GenerationRequest,
    Job,
    LatteError,
    Loading,
    MemoryPlanError,
    NonFiniteError,
    RequestError,
    Step,
)
from latte_core.diffusion.schedulers import SCHEDULERS

PROMPT = "a red rocket flies over the sea"
WAIT_S = 30


@pytest.fixture(scope="module")
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


def ask(prompt=PROMPT, **fields):
    return GenerationRequest(prompt, **{"seed": 7, "num_inference_steps": 4, **fields})


def same(one, other):
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.latents, other.latents)
        and np.array_equal(one.initial_latents, other.initial_latents)
        and len(one.stills) == len(other.stills)
        and all(map(np.array_equal, one.stills, other.stills))
    )


# --- events and results ---------------------------------------------------------------------


def test_events_come_in_order_and_complete(engine):
    events = list(engine.stream(ask()))
    assert [type(event) for event in events] == (
        [Encoded] + [Step] * 5 + [Decoding] * FRAMES + [Finished]
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
    from latte_core.components.preview import preview_frames
    from latte_core.engine.parts import sd1_preview

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
    assert info.clip_lengths == (1, FRAMES)
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


# --- seeds ----------------------------------------------------------------------------------


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
    from latte_core.diffusion.guidance import pair_prompts

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


# --- modes ----------------------------------------------------------------------------------


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


# --- samplers -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = write_tiny_folder(
        tmp_path_factory.mktemp("learned"), scheduler={"variance_type": "learned_range"}
    )
    with Engine.load(folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def velocity(tmp_path_factory):
    fields = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    folder = write_tiny_folder(tmp_path_factory.mktemp("velocity"), scheduler=fields)
    with Engine.load(folder) as loaded:
        yield loaded


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("kind", ["learned", "velocity"])
def test_every_scheduler_runs(request, kind, scheduler, steps):
    engine = request.getfixturevalue(kind)
    asked = ask(scheduler=scheduler, num_inference_steps=steps, guidance_scale=2.0)
    events = list(engine.stream(asked))
    last = [event for event in events if isinstance(event, Step)][-1]
    assert last.index == last.total >= steps
    made = events[-1].generation
    assert np.isfinite(made.latents).all()
    assert not np.array_equal(made.latents, made.initial_latents)


def test_learned_variance_is_used_by_ddpm_only(learned, engine):
    for scheduler in ("ddim", "dpm++2m", "euler"):
        with_it = learned.generate(ask(scheduler=scheduler))
        assert np.array_equal(with_it.latents, engine.generate(ask(scheduler=scheduler)).latents)
    with_it, without = (one.generate(ask(scheduler="ddpm")) for one in (learned, engine))
    assert not np.array_equal(with_it.latents, without.latents)


# --- stops ----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["resident", "offload"])
def test_cancel_at_every_step_and_frame(tiny_folder, memory, monkeypatch):
    """The job is stopped from inside, right after its n-th event, for every n."""
    emit, stop_after = Job.emit, 0

    def emit_and_stop(job, event):
        emit(job, event)
        count[0] += 1
        if count[0] == stop_after:
            job.cancel()

    with Engine.load(tiny_folder, memory=memory) as engine:
        request = ask(num_inference_steps=3)
        whole = engine.generate(request)
        count = [0]
        monkeypatch.setattr(Job, "emit", emit_and_stop)
        events = list(engine.stream(request))
        for stop_after in range(1, len(events) - 1):
            count[0] = 0
            job = engine.submit(request)
            seen = []
            with pytest.raises(Cancelled) as caught:
                seen.extend(job.events())
                pytest.fail(f"not stopped after event {stop_after}")
            assert job.wait(WAIT_S)
            assert job.state == "cancelled"
            steps = [event.index for event in events[:stop_after] if isinstance(event, Step)]
            assert caught.value.step == max(steps, default=0)
            assert count[0] == stop_after
            if stop_after % 3 == 1:
                count[0] = 100
                assert same(whole, engine.generate(request))


@pytest.fixture
def stepwise(engine, monkeypatch):
    """Lets the transformer run one forward each time it is told to."""
    gate, calls = threading.Semaphore(0), []
    transformer = engine._pipeline.parts.transformer
    forward = transformer.forward

    def waiting(*args, **options):
        assert gate.acquire(timeout=WAIT_S)
        calls.append(1)
        return forward(*args, **options)

    monkeypatch.setattr(transformer, "forward", waiting)
    return gate, calls


def test_cancel_ends_within_one_step(engine, stepwise):
    gate, calls = stepwise
    for stop_after in range(4):
        calls.clear()
        job = engine.submit(ask(num_inference_steps=5))
        events = job.events()
        assert isinstance(next(events), Encoded)
        assert next(events).index == 0
        for index in range(1, stop_after + 1):
            gate.release()
            assert next(events).index == index
        job.cancel()
        gate.release()  # the step that may be under way
        with pytest.raises(Cancelled) as caught:
            list(events)
        assert len(calls) <= stop_after + 1
        assert caught.value.step in (stop_after, stop_after + 1)
        assert caught.value.total == 5
        while len(calls) <= stop_after:  # unused permit
            if not gate.acquire(blocking=False):
                break


def test_closing_the_stream_cancels(engine, stepwise):
    gate, _ = stepwise
    stream = engine.stream(ask(num_inference_steps=50))
    next(stream)
    stream.close()
    gate.release(51 + 4)
    assert engine.generate(ask()).seed == 7


def test_a_stream_that_nobody_reads_runs_nothing(engine, monkeypatch):
    monkeypatch.setattr(engine, "submit", lambda request: pytest.fail("submitted"))
    engine.stream(ask())
    with pytest.raises(RequestError):
        engine.stream(ask(num_frames=3))


def test_generate_stops_when_its_event_is_set(engine):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        engine.generate(ask(num_inference_steps=250), cancel=stop)


# --- errors ---------------------------------------------------------------------------------

STAGES = {
    "encode": ("text", "encode"),
    "step": ("transformer", "forward"),
    "decode": ("vae", "decode"),
}


def break_stage(engine, monkeypatch, stage, action, after=0):
    part, method = STAGES[stage]
    engine._pipeline.prompts._known.clear()
    target = getattr(engine._pipeline.parts, part)
    original, calls = getattr(target, method), []

    def broken(*args, **options):
        calls.append(1)
        if len(calls) > after:
            return action(original, *args, **options)
        return original(*args, **options)

    monkeypatch.setattr(target, method, broken)


@pytest.fixture(scope="module", params=["resident", "offload"])
def fresh(request, tiny_folder):
    with Engine.load(tiny_folder, memory=request.param) as loaded:
        yield loaded


@pytest.mark.parametrize("stage,after", [("encode", 0), ("step", 0), ("step", 2), ("decode", 3)])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError, ValueError])
def test_errors_at_every_stage_leave_the_engine_as_it_was(fresh, monkeypatch, stage, after, kind):
    before = fresh.generate(ask("a green ship", num_inference_steps=1))

    def fail(original, *args, **options):
        raise kind("broken on purpose")

    with monkeypatch.context() as patch:
        break_stage(fresh, patch, stage, fail, after)
        expected = MemoryPlanError if kind is MemoryError else LatteError
        with pytest.raises(expected):
            fresh.generate(ask())
    assert fresh.alive
    assert same(before, fresh.generate(ask("a green ship", num_inference_steps=1)))


def _nan(original, *args, **options):
    result = original(*args, **options)
    tensor = result if isinstance(result, torch.Tensor) else result.sample
    tensor[(0,) * tensor.ndim] = float("nan")
    return result


@pytest.mark.parametrize(
    "stage,after,word",
    [
        ("encode", 0, "text encoder"),
        ("step", 0, "at step 1"),
        ("step", 3, "at step 4"),
        ("decode", 2, "image decoder"),
    ],
)
def test_nan_is_found_and_named_and_no_frames_come_out(fresh, monkeypatch, stage, after, word):
    with monkeypatch.context() as patch:
        break_stage(fresh, patch, stage, _nan, after)
        events = fresh.stream(ask())
        with pytest.raises(NonFiniteError, match=word):
            assert not any(isinstance(event, Finished) for event in events)
    assert np.isfinite(fresh.generate(ask()).latents).all()


def test_a_prompt_without_words_after_cleaning_is_refused(engine):
    with pytest.raises(RequestError, match="no words left") as caught:
        engine.generate(ask("\u732b\u304c\u98db\u3076".replace("\u304c", "").replace("\u3076", "")))
    assert caught.value.field == "prompt"


def test_a_prompt_of_too_many_tokens_is_refused(engine):
    with pytest.raises(RequestError, match="longer than 120 tokens"):
        engine.generate(ask("q z x " * 50))


def test_a_closed_engine_refuses(tiny_folder):
    engine = Engine.load(tiny_folder)
    engine.close()
    engine.close()
    assert not engine.alive
    with pytest.raises(EngineBusyError, match="shut down"):
        engine.generate(ask())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing-here"):
        Engine.load(tmp_path / "nothing-here")


@pytest.mark.parametrize("words", [{"memory": "huge"}, {"device": "abacus"}])
def test_unknown_plans_and_devices_are_refused(tiny_folder, words):
    with pytest.raises(MemoryPlanError, match="auto"):
        Engine.load(tiny_folder, **words)


def test_no_thread_stays_after_failed_or_closed_engines(tiny_folder, tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    Engine.load(tiny_folder).close()
    with pytest.raises(CheckpointError):
        Engine.load(tmp_path / "none")
    assert {thread.name for thread in threading.enumerate()} <= before
