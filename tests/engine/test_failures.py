"""Errors of every kind at every stage: named, contained, and nothing half-made comes out."""

import gc
import threading

import numpy as np
import pytest
import torch
from tiny_requests import WAIT_S, ask, same

from latte_core import (
    CheckpointError,
    Engine,
    EngineBusyError,
    Finished,
    LatteError,
    MemoryPlanError,
    NonFiniteError,
    RequestError,
)

STAGES = {
    "encode": ("text", "encode"),
    "step": ("transformer", "forward"),
    "decode": ("vae", "decode"),
}


def break_stage(engine, monkeypatch, stage, action, after=0):
    part, method = STAGES[stage]
    engine._pipeline.conditioner._known.clear()
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


@pytest.mark.parametrize("stage,after", [("encode", 0), ("step", 0), ("step", 2), ("decode", 0)])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ValueError])
def test_errors_at_every_stage_leave_the_engine_as_it_was(fresh, monkeypatch, stage, after, kind):
    before = fresh.generate(ask("a green ship", num_inference_steps=1))

    def fail(original, *args, **options):
        raise kind("broken on purpose")

    with monkeypatch.context() as patch:
        break_stage(fresh, patch, stage, fail, after)
        with pytest.raises(LatteError):
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
        ("decode", 0, "image decoder"),
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


def _live_tensors():
    gc.collect()
    return sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)


def test_no_tensor_outlives_its_job(fresh, monkeypatch):
    """Finished, stopped and failed jobs leave nothing, also while their errors are kept."""

    def fail(original, *args, **options):
        raise ValueError("broken on purpose")

    def one_of_each():
        fresh.generate(ask())
        job = fresh.submit(ask(num_inference_steps=200))
        next(job.events())
        job.cancel()
        assert job.wait(WAIT_S)
        kept.append(job.error)
        with monkeypatch.context() as patch:
            break_stage(fresh, patch, "step", fail, after=1)
            failing = fresh.submit(ask())
            assert failing.wait(WAIT_S)
            kept.append(failing.error)
        # When the next job ends, the worker has let go of the one before.
        assert fresh._worker.submit(lambda job: None).wait(WAIT_S)

    kept = []
    one_of_each()
    before = _live_tensors()
    leak = [torch.zeros(1)]
    assert _live_tensors() == before + len(leak)  # the count sees tensors
    for _ in range(2):
        one_of_each()
    assert _live_tensors() == before + len(leak)
