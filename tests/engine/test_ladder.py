"""Memory that runs out in the real path: one plan down, same seed, same clip; or a clear end."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_requests import ask, count_rows, same

from latte_core import Engine, Finished, MemoryPlanError, SteppedDown
from latte_core.components.block_streaming import stream_blocks, unstream_blocks
from latte_core.engine import ladder as ladder_module
from latte_core.engine import parts as parts_module
from latte_core.engine.memory import free_memory, is_packed
from latte_core.engine.plans import choose_plan
from latte_core.engine.shortage import ran_out_of_memory

SMALL = ask(num_inference_steps=3)


def fail_once(part, error, after=0):
    """A hook that raises `error` at one forward, the real place where memory runs out."""
    calls = []

    def hook(module, args):
        calls.append(1)
        if len(calls) == after + 1:
            raise error

    return part.register_forward_pre_hook(hook)


@pytest.fixture
def fresh(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def expected(tiny_folder):
    """The clip as an engine makes it that was loaded with each plan to begin with."""
    made = {}
    for memory in ("resident", "split"):
        with Engine.load(tiny_folder, memory=memory) as loaded:
            made[memory] = loaded.generate(SMALL)
    return made


ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "python": MemoryError(),
    "cpu": RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
}


@pytest.mark.parametrize("stage,after", [("transformer", 0), ("transformer", 2), ("text", 0)])
@pytest.mark.parametrize("kind", ERRORS)
def test_a_job_completes_with_the_next_plan_and_says_so(fresh, expected, kind, stage, after):
    parts = fresh._pipeline.parts
    part = parts.transformer if stage == "transformer" else parts.text.model
    handle = fail_once(part, ERRORS[kind], after)
    events = list(fresh.stream(SMALL))
    handle.remove()
    (told,) = [event for event in events if isinstance(event, SteppedDown)]
    assert told.plan == "split"
    for word in ("split on cpu", "memory ran out with resident", "GiB", "close other programs"):
        assert word in told.sentence
    made = events[-1].generation
    assert isinstance(events[-1], Finished) and made.recipe["memory"] == "split"
    assert same(made, expected["split"])
    assert np.allclose(made.latents, expected["resident"].latents, atol=1e-4)
    assert fresh.describe().plan == told.sentence
    # The next request does not run out first.
    assert not any(isinstance(event, SteppedDown) for event in fresh.stream(SMALL))


def test_decoding_that_runs_out_begins_again_with_the_same_seed(fresh, expected):
    handle = fail_once(fresh._pipeline.parts.vae.decoder, MemoryError())
    made = fresh.generate(SMALL)
    handle.remove()
    assert same(made, expected["split"])


def test_a_plan_that_only_moves_parts_gives_the_same_bytes(tiny_folder, expected):
    """Placing the parts anew by the plan that they have changes nothing."""
    with Engine.load(tiny_folder, memory="offload") as engine:
        plan = engine._pipeline.parts.plan
        assert same(engine.generate(SMALL), expected["resident"])
        engine._ladder.place(engine._pipeline.parts.plan)
        assert engine._pipeline.parts.plan == plan
        assert same(engine.generate(SMALL), expected["resident"])


def test_halves_of_guidance_run_one_at_a_time(tiny_folder, monkeypatch):
    with Engine.load(tiny_folder, memory="split") as engine:
        rows = count_rows(engine, monkeypatch)
        engine.generate(ask(negative_prompt="a big blurry dog", num_inference_steps=3))
    assert rows == [1] * 6


def test_at_the_last_plan_it_is_an_error_and_the_engine_is_as_it_was(fresh, expected):
    told = []

    def never(module, args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = fresh._pipeline.parts.transformer.register_forward_pre_hook(never)
    job = fresh.submit(SMALL)
    with pytest.raises(MemoryPlanError, match=r"down to split, which needs .* GiB") as caught:
        for event in job.events():
            told += [event.plan] if isinstance(event, SteppedDown) else []
    handle.remove()
    assert told == ["split"]
    assert "smaller size or fewer frames" in str(caught.value)
    assert fresh._pipeline.parts.plan.name == "resident"
    assert same(fresh.generate(SMALL), expected["resident"])


def test_a_packed_text_encoder_is_read_anew_and_back(fresh, expected):
    pytest.importorskip("bitsandbytes")
    ladder, first = fresh._ladder, fresh._pipeline.parts.plan
    sizes = fresh._pipeline.parts.sizes
    packed = choose_plan(sizes, free_memory(), "offload-4bit", "cpu")
    ladder.place(packed)
    assert is_packed(fresh._pipeline.parts.text.model)
    made = fresh.generate(SMALL)
    assert made.recipe["memory"] == "offload-4bit" and not same(made, expected["resident"])
    ladder.place(first)
    assert not is_packed(fresh._pipeline.parts.text.model)
    assert same(fresh.generate(SMALL), expected["resident"])


def test_what_a_failed_attempt_held_is_gone_before_the_next(fresh):
    held, alive = [], []

    def look(module, args):
        alive.append(sum(1 for one in held if one() is not None))
        held.extend(weakref.ref(tensor) for tensor in args)
        if len(alive) == 3:
            raise MemoryError

    handle = fresh._pipeline.parts.transformer.register_forward_pre_hook(look)
    fresh.generate(SMALL)
    handle.remove()
    assert len(held) >= 3 * len(alive[:1]) and alive[3] == 0


def test_other_errors_are_no_shortage(fresh):
    assert not ran_out_of_memory(RuntimeError("shapes do not fit"))
    assert not ran_out_of_memory(ValueError("out of memory"))
    handle = fail_once(fresh._pipeline.parts.transformer, RuntimeError("shapes do not fit"))
    events = []
    with pytest.raises(Exception, match="shapes"):
        for event in fresh.stream(SMALL):
            events.append(event)
    handle.remove()
    assert not any(isinstance(event, SteppedDown) for event in events)


def test_what_blocks_read_outside_of_their_forward_is_made_where_they_wait(tiny_folder, expected):
    """The plan as a GPU would carry it out, with the CPU's devices and dtypes in its place."""
    with Engine.load(tiny_folder, memory="split") as engine:
        plan = replace(engine._pipeline.parts.plan, name="streamed", streamed=True)
        engine._ladder.place(plan)
        model = engine._pipeline.parts.transformer
        told, read = [], model.read

        def watched(embeds, *args, **options):
            told.append(embeds.device.type)
            return read(embeds, *args, **options)

        model.read = watched
        assert same(engine.generate(SMALL), expected["split"])
        del model.read
        assert told and set(told) == {"cpu"}
        assert all(hasattr(block, "_diffusers_hook") for block in model.blocks)
        engine._ladder.place(replace(plan, name="split", streamed=False))
        hooks = [block._diffusers_hook.hooks for block in model.blocks]
        assert not any(hooks)
        assert same(engine.generate(SMALL), expected["split"])


def test_blocks_come_and_go_and_the_result_is_the_same(tiny_folder, monkeypatch):
    """diffusers' hooks on the real network; on a CPU the device is the same, the moves are not."""
    with Engine.load(tiny_folder) as engine:
        whole = engine.generate(SMALL)
        model = engine._pipeline.parts.transformer
        moves = []
        for index, block in enumerate(model.blocks):
            move = block.to

            def watched(*args, index=index, move=move, **options):
                moves.append(index)
                return move(*args, **options)

            monkeypatch.setattr(block, "to", watched)
        stream_blocks(model, "cpu")
        assert same(engine.generate(SMALL), whole)
        blocks, steps = len(model.blocks), SMALL.num_inference_steps
        # Out again behind its own forward, block after block.
        assert moves[-blocks * steps :] == [*range(blocks)] * steps
        unstream_blocks(model)
        moves.clear()
        assert same(engine.generate(SMALL), whole)
        assert moves == []


def failing_first(monkeypatch, module, name, times, error):
    """Let a function of a module run out of memory so many times."""
    real, calls = getattr(module, name), []

    def stubborn(*args, **options):
        calls.append(1)
        if len(calls) <= times:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(module, name, stubborn)


# Where a load takes memory: reading the text encoder, the transformer, and placing the parts.
PLACES = {
    "read_text": parts_module,
    "load_transformer": parts_module,
    "make_policy": ladder_module,
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_a_load_that_runs_out_takes_the_next_plan_and_says_so(
    tiny_folder, expected, monkeypatch, name, kind
):
    failing_first(monkeypatch, PLACES[name], name, 1, ERRORS[kind])
    told = []
    with Engine.load(tiny_folder, on_progress=told.append) as engine:
        said = [event.message for event in told if event.stage == "stepped down"]
        assert len(said) == 1 and said[0] == engine.describe().plan
        for word in ("split on cpu", "memory ran out with resident", "close other programs"):
            assert word in said[0]
        events = list(engine.stream(SMALL))
    assert not any(isinstance(event, SteppedDown) for event in events)
    assert same(events[-1].generation, expected["split"])


@pytest.mark.parametrize("name", PLACES)
def test_a_load_without_room_for_any_plan_ends_with_a_remedy(tiny_folder, monkeypatch, name):
    failing_first(monkeypatch, PLACES[name], name, 99, MemoryError())
    with pytest.raises(MemoryPlanError, match=r"every memory plan down to .* close other|Close"):
        Engine.load(tiny_folder)


def test_a_load_that_fails_otherwise_does_not_step_down(tiny_folder, monkeypatch):
    told = []
    failing_first(monkeypatch, parts_module, "load_transformer", 1, RuntimeError("no such file"))
    with pytest.raises(Exception, match="no such file"):
        Engine.load(tiny_folder, on_progress=told.append)
    assert not any(event.stage == "stepped down" for event in told)


def test_a_step_down_that_has_no_room_either_is_an_error_with_a_remedy(
    fresh, expected, monkeypatch
):
    """On the CPU nothing needs less than `split`; the engine is as it was."""
    handle = fail_once(fresh._pipeline.parts.transformer, MemoryError())
    failing_first(monkeypatch, ladder_module, "make_policy", 1, MemoryError())
    with pytest.raises(MemoryPlanError, match=r"down to split, which needs .* fewer frames"):
        fresh.generate(SMALL)
    handle.remove()
    assert same(fresh.generate(SMALL), expected["resident"])
