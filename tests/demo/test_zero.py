"""Jobs on a host that lends a GPU for a call: what is lent, carried over, stopped and said."""

import os
import sys
from dataclasses import replace
from functools import partial

import fake_engine
import numpy as np
import pytest
import torch
from fake_engine import INFO, FakeEngine, load_fake
from fake_spaces import FakeSpaces
from gradio.context import LocalContext
from tiny_folder import write_tiny_folder

from demo.executors import LocalExecutor, engine_loader
from demo.settings import Settings, parse_settings
from demo.strings import load_texts
from demo.zero import LONGEST_S, OVERHEAD_S, ZeroExecutor, needed_s, plain_text
from latte_core import Cancelled, Engine, Finished, GenerationRequest, LatteError, Step

REQUEST = GenerationRequest(prompt="a red cat", seed=1)
LONG_S = 60
drain = partial(fake_engine.drain, wait_s=LONG_S)
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def spaces(monkeypatch):
    module = FakeSpaces()
    monkeypatch.setitem(sys.modules, "spaces", module)
    return module


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def executor(spaces, engine):
    executor = ZeroExecutor(load_fake(engine), 2, load_texts())
    executor.before_launch()
    executor.start()
    return executor


def test_zero_makes_the_film_in_another_process_and_streams_its_steps(executor, spaces, engine):
    run = executor.submit(REQUEST)
    events, error = drain(run)
    assert error is None and isinstance(events[-1], Finished)
    assert [event.index for event in events if isinstance(event, Step)] == list(range(7))
    assert engine.requests == []  # the engine of this process was not asked
    assert [child.pid != os.getpid() for child in spaces.processes] == [True]
    own = FakeEngine().submit(REQUEST).events()
    made = next(event for event in own if isinstance(event, Finished)).generation
    assert np.array_equal(events[-1].generation.frames, made.frames)


def test_zero_hands_on_a_step_while_later_ones_are_still_to_come(executor, spaces, engine):
    engine.hold_at = 4  # for ever: only steps 0 to 3 can arrive
    run = executor.submit(REQUEST)
    steps = []
    while len(steps) < 4:
        if isinstance(event := run.poll(LONG_S), Step):
            steps.append(event.index)
    assert steps == [0, 1, 2, 3] and spaces.processes[0].is_alive()
    spaces.processes[0].kill()


def test_zero_stops_within_a_step_and_gives_the_device_back(executor, spaces, engine):
    engine.step_s = 0.05
    run = executor.submit(replace(REQUEST, num_inference_steps=100), "page")
    while not (isinstance(event := run.poll(LONG_S), Step) and event.index == 2):
        pass
    executor.cancel("page")
    _, error = drain(run)
    assert isinstance(error, Cancelled) and 2 <= error.step < 100 and error.total == 100
    spaces.processes[0].join(LONG_S)
    assert spaces.processes[0].exitcode == 0
    engine.step_s = 0
    assert drain(executor.submit(REQUEST, "page"))[1] is None


def test_zero_asks_for_the_time_that_the_film_needs(executor, spaces):
    for steps in (6, 100):
        drain(executor.submit(replace(REQUEST, num_inference_steps=steps)))
    resolved = replace(REQUEST, num_inference_steps=50).resolve(INFO.defaults, INFO.clip_lengths)
    large = replace(resolved, height=512, width=512, num_frames=16)
    assert spaces.durations == [OVERHEAD_S, OVERHEAD_S + 1]  # these films are small
    assert needed_s(resolved) < needed_s(large) == OVERHEAD_S + 75
    assert needed_s(replace(large, num_inference_steps=200)) == LONGEST_S


def test_zero_charges_the_visitor_who_asked(executor, spaces):
    visitor = LocalContext.request.set("the visitor's request")
    try:
        drain(executor.submit(REQUEST))
    finally:
        LocalContext.request.reset(visitor)
    assert spaces.visitors == ["the visitor's request"]


def test_zero_says_what_went_wrong_on_either_side(executor, spaces, engine):
    engine.fail = LatteError("NaN at step 2.")
    assert str(drain(executor.submit(REQUEST))[1]) == "NaN at step 2."
    engine.fail = ValueError("secret path")
    assert str(drain(executor.submit(REQUEST))[1]) == "ValueError"
    spaces.refusal = 'No quota left &amp; <a href="https://hf.co/join">none</a> to come.'
    assert str(drain(executor.submit(REQUEST))[1]) == "No quota left & none to come."
    impossible = replace(REQUEST, num_frames=7)
    asked = len(spaces.durations)
    assert "7" in str(drain(executor.submit(impossible))[1])
    assert len(spaces.durations) == asked  # no device was asked for


def test_zero_lets_two_visitors_run_at_once(executor, engine, spaces):
    engine.hold_at = 2
    runs = [executor.submit(REQUEST, owner) for owner in ("one", "other")]
    for run in runs:
        while not isinstance(run.poll(LONG_S), Step):
            pass
    assert [executor.place(run) for run in runs] == [0, 0]
    assert len(spaces.processes) == 2
    for child in spaces.processes:
        child.kill()


def test_zero_without_its_package_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    executor = ZeroExecutor(load_fake(FakeEngine()), 2, load_texts())
    executor.before_launch()
    assert "pip install spaces" in executor.readiness().failure
    assert "pip install spaces" in str(drain(executor.submit(REQUEST))[1])


@pytest.fixture
def one_thread():
    """As many threads in this process as in a forked one, since more sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_zero_runs_the_real_engine_in_the_forked_process(spaces, tmp_path):
    model = str(write_tiny_folder(tmp_path / "tiny"))
    settings = Settings(model=model, device="cpu", zero_gpu=True)
    executor = ZeroExecutor(engine_loader(settings), 2, load_texts())
    executor.before_launch()
    assert executor.readiness().failure == ""
    request = replace(REQUEST, num_inference_steps=2)
    events, error = drain(executor.submit(request))
    assert error is None
    with Engine.load(model, device="cpu") as engine:
        own = engine.generate(request)
    assert np.array_equal(events[-1].generation.latents, own.latents)


def test_zero_is_chosen_by_the_hosts_own_variable():
    assert not parse_settings([], {}).zero_gpu
    assert parse_settings([], {"SPACES_ZERO_GPU": "true"}).zero_gpu
    assert not parse_settings([], {"SPACES_ZERO_GPU": "false"}).zero_gpu
    assert issubclass(ZeroExecutor, LocalExecutor)
    assert plain_text("<b>a</b> &lt;") == "a <"
