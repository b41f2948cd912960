"""Stopping a job: at every step, by closing, by an event; the engine is as before."""

import threading

import pytest
from tiny_requests import WAIT_S, ask, same

from latte_core import Cancelled, Encoded, Engine, Job, RequestError, Step


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
        request = ask(num_inference_steps=2)
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
        assert next(events).index == 0
        assert isinstance(next(events), Encoded)
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
