import threading
from functools import partial

import fake_engine
import pytest
from fake_engine import FakeEngine, load_fake

from demo.executors import LocalExecutor
from demo.strings import load_texts
from latte_core import (
    Cancelled,
    CheckpointError,
    EngineBusyError,
    Finished,
    GenerationRequest,
    LatteError,
    Step,
)

REQUEST = GenerationRequest(prompt="a red cat", seed=1)
LONG_S = 20
drain = partial(fake_engine.drain, wait_s=LONG_S)


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def executor(engine):
    executor = LocalExecutor(load_fake(engine), 2, load_texts())
    executor.start()
    return executor


def wait_for_step(run):
    while not isinstance(run.poll(LONG_S), Step):
        pass


def test_executor_hands_on_every_event(executor):
    events, error = drain(executor.submit(REQUEST))
    assert error is None
    assert [event.index for event in events if isinstance(event, Step)] == list(range(7))
    assert isinstance(events[-1], Finished)


def test_executor_stops_the_job_of_one_page_and_leaves_the_others(executor, engine):
    engine.step_s = LONG_S
    mine, other = executor.submit(REQUEST, "mine"), executor.submit(REQUEST, "other")
    wait_for_step(mine)
    executor.cancel("mine")
    engine.step_s = 0
    _, error = drain(mine)
    assert isinstance(error, Cancelled) and (error.step, error.total) == (0, 6)
    events, error = drain(other)
    assert error is None and isinstance(events[-1], Finished)


def test_executor_cancels_a_job_that_waits_for_the_model():
    gate = threading.Event()

    def load(on_progress):
        gate.wait(LONG_S)
        return FakeEngine()

    executor = LocalExecutor(load, 2, load_texts())
    executor.start()
    run = executor.submit(REQUEST, "page")
    executor.cancel("page")
    assert isinstance(drain(run)[1], Cancelled)
    gate.set()


def test_executor_keeps_the_order_of_jobs_that_waited_for_the_model():
    gate, engine = threading.Event(), FakeEngine()

    def load(on_progress):
        gate.wait(LONG_S)
        return engine

    executor = LocalExecutor(load, 8, load_texts())
    executor.start()
    requests = [GenerationRequest(prompt="a cat", seed=seed) for seed in range(6)]
    runs = [executor.submit(request) for request in requests]
    assert [executor.place(run) for run in runs] == list(range(6))
    gate.set()
    for run in runs:
        drain(run)
    assert [request.seed for request in engine.requests] == list(range(6))


def test_executor_refuses_more_jobs_than_may_wait(executor, engine):
    engine.step_s = LONG_S
    runs = [executor.submit(REQUEST) for _ in range(3)]
    with pytest.raises(EngineBusyError, match="2 films are already waiting"):
        executor.submit(REQUEST)
    for run in runs:
        run.cancel()
        drain(run)
    engine.step_s = 0
    assert drain(executor.submit(REQUEST))[1] is None


def test_executor_gives_a_page_one_job_at_a_time(executor, engine):
    engine.step_s = LONG_S
    first = executor.submit(REQUEST, "page")
    wait_for_step(first)
    engine.step_s = 0
    second = executor.submit(REQUEST, "page")
    assert first.replaced and isinstance(drain(first)[1], Cancelled)
    assert drain(second)[1] is None


@pytest.mark.parametrize("fault", [SystemExit("x"), MemoryError("x"), ValueError("secret path")])
def test_executor_survives_any_fault_and_keeps_its_words_to_itself(executor, engine, fault):
    engine.fail = fault
    _, error = drain(executor.submit(REQUEST))
    assert type(error) is LatteError and "secret" not in str(error)
    assert "broke on our side (report run-1)" in str(error)
    engine.fail = None
    assert drain(executor.submit(REQUEST))[1] is None


def test_executor_says_why_the_model_did_not_load():
    def load(on_progress):
        raise CheckpointError("There is no folder nowhere.")

    executor = LocalExecutor(load, 2, load_texts())
    executor.start()
    _, error = drain(executor.submit(REQUEST))
    assert "There is no folder nowhere." in str(error)
    assert executor.readiness().failure == "There is no folder nowhere."
