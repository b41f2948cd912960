"""Stop really stops: two visitors who cancel twenty runs, one model that never does two at once."""

import gc
import threading

import pytest
import torch

from demo.executors import LocalExecutor
from demo.strings import load_texts
from latte_core import Cancelled, Engine, Finished, GenerationRequest, Step

ROUNDS = 10  # of each visitor
FOREVER = GenerationRequest("a red cat", seed=1, num_inference_steps=200)


@pytest.fixture
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


def count_at_once(engine):
    """The most passes through the transformer that went on at the same time."""
    lock, now, most = threading.Lock(), [0], [0]

    def enter(module, args):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])

    def leave(module, args, output):
        with lock:
            now[0] -= 1

    network = engine._pipeline.parts.transformer
    network.register_forward_pre_hook(enter)
    network.register_forward_hook(leave)
    return most


def visit(executor, owner, ended):
    """Start runs and cancel each: in line, at its start, or some steps into it."""
    for number in range(ROUNDS):
        run = executor.submit(FOREVER, owner)
        wanted = number % 4
        try:
            while wanted:
                event = run.poll(0.05)
                if isinstance(event, Step) and event.index >= wanted:
                    break
            executor.cancel(owner)
            while True:
                run.poll(0.05)
        except Cancelled as stopped:
            ended.append((owner, stopped.step))


def live_tensors():
    gc.collect()
    return sum(type(thing) is torch.Tensor for thing in gc.get_objects())


def film(executor):
    """Make a short film; whether it came to its end."""
    run = executor.submit(GenerationRequest("a red cat", seed=2, num_inference_steps=2), "last")
    while not isinstance(event := run.poll(0.05), Finished):
        pass
    return event.generation.seed == 2


def test_twenty_cancels_of_two_visitors_leave_the_model_free_and_nothing_behind(engine):
    executor = LocalExecutor(lambda report: engine, 4, load_texts())
    executor.load_now()
    most, ended = count_at_once(engine), []
    assert film(executor)
    before = live_tensors()
    visitors = [
        threading.Thread(target=visit, args=(executor, name, ended), daemon=True)
        for name in ("ann", "bob")
    ]
    for one in visitors:
        one.start()
    for one in visitors:
        one.join(240)
    assert sorted(name for name, _ in ended) == ["ann"] * ROUNDS + ["bob"] * ROUNDS
    assert all(step < 100 for _, step in ended)  # none went on to its end
    assert film(executor)
    assert executor.waiting() == 0 and most == [1]
    assert live_tensors() <= before + 2  # the last film's own events may still be held


def test_count_sees_two_passes_at_once(engine):
    """The control: the same count where nothing keeps two jobs apart."""
    most, network = count_at_once(engine), engine._pipeline.parts.transformer
    inside = threading.Barrier(2)

    def wait(module, args):
        inside.wait(30)

    network.register_forward_pre_hook(wait)
    config = network.config
    noise = torch.zeros(1, config.in_channels, 1, config.sample_size, config.sample_size)
    prompt = torch.zeros(1, 2, config.caption_channels)

    def go():
        with torch.no_grad():
            network(noise, torch.zeros(1), prompt)

    both = [threading.Thread(target=go) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(30)
    assert most == [2]
