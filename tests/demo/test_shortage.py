"""Memory that is short, before a run and in it: what the page says, and what its buttons do."""

import json

import pytest
import torch
from fake_engine import FakeEngine, load_fake
from test_handlers import FIELDS

from demo.executors import LocalExecutor
from demo.handlers import Handlers
from demo.markup import plan_of_now
from demo.outputs import Outputs
from demo.strings import load_texts
from demo.sweeping import Sweeping
from latte_core import Engine, MemoryPlanError
from latte_core.engine import outlook
from latte_core.engine.plans import GIB

ASKED = {**FIELDS, "prompt": "a red cat", "num_inference_steps": 2}


def handlers_of(engine, folder):
    executor = LocalExecutor(lambda report: engine, 2, load_texts())
    executor.start()
    assert executor._settled.wait(20)
    return Handlers(executor, Outputs(folder), load_texts())


@pytest.fixture
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


@pytest.fixture
def handlers(engine, tmp_path):
    return handlers_of(engine, tmp_path)


def states(values):
    return [json.loads(value) for value in values]


def run_short(engine, times):
    """The real place where memory runs out: the transformer's forward, so many times."""
    calls = []

    def hook(module, args):
        calls.append(1)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    return engine._pipeline.parts.transformer.register_forward_pre_hook(hook)


def test_run_that_steps_down_says_so_until_its_end(engine, handlers):
    handle = run_short(engine, 1)
    told = states(handlers.generate(ASKED, "page"))
    handle.remove()
    assert told[-1]["state"] == "finished"
    assert told[-1]["note"].startswith("Memory ran out; it goes on with the smaller memory plan")
    assert any("memory ran out with resident" in state["detail"] for state in told)
    assert not any(state["remedies"] for state in told)


def test_run_that_fails_with_every_plan_offers_a_smaller_size_and_keeps_the_seed(engine, handlers):
    handle = run_short(engine, 99)
    last = states(handlers.generate(ASKED, "page"))[-1]
    handle.remove()
    assert last["state"] == "failed" and "every memory plan" in last["text"]
    (remedy,) = [one for one in last["remedies"] if one["size"]]
    assert remedy["size"] == "48 × 48" and remedy["label"] == "Make it at 48 × 48"
    assert "split" not in [one["plan"] for one in last["remedies"]]  # it was tried
    again = states(handlers.run_again(ASKED, {**remedy, "seed": last["seed"]}, "page"))[-1]
    assert again["state"] == "finished" and "48×48" in again["facts"]
    assert again["seed"] == last["seed"]


@pytest.fixture
def short(engine, monkeypatch):
    """So little is free that the plan of now does not fit, and the next does."""
    held = outlook._held_bytes(engine._pipeline.parts)
    now, lower, *_ = engine.describe().memory.needs(handlers_request())
    free = int((now.needed_gib + lower.needed_gib) / 2 * GIB) - held
    monkeypatch.setattr(outlook, "free_memory", lambda: {"cpu": free})


def handlers_request():
    from latte_core import GenerationRequest

    return GenerationRequest("a red cat", num_inference_steps=2, guidance_scale=4)


@pytest.mark.usefixtures("short")
def test_run_that_will_not_fit_is_explained_and_one_click_takes_the_next_plan(engine, handlers):
    (card,) = states(handlers.generate(ASKED, "page"))
    assert card["state"] == "failed"
    assert card["text"].startswith("Too little memory: this film needs about 0.")
    assert "memory plan resident" in card["text"] and "GiB are free" in card["text"]
    plan, *_, anyway = card["remedies"]
    assert plan["plan"] == "split" and anyway["anyway"] is True
    told = states(handlers.run_again(ASKED, {**plan, "seed": card["seed"]}, "page"))
    assert told[0]["text"] == "Placing the model by the memory plan split"
    assert told[-1]["state"] == "finished" and told[-1]["seed"] == card["seed"]
    assert "split" in plan_of_now(engine.describe())
    assert "split" in Sweeping(handlers).status()["memory"]
    (entry,) = handlers.history.entries("")
    assert entry.recipe["memory"] == "split"


@pytest.mark.usefixtures("short")
def test_run_can_be_wanted_all_the_same_and_nonsense_is_refused(handlers):
    last = states(handlers.run_again(ASKED, {"anyway": True, "seed": 3}, "page"))[-1]
    assert last["state"] == "finished" and last["seed"] == 3
    (refused,) = states(handlers.run_again(ASKED, {"plan": "<b>", "seed": 3}, "page"))[1:]
    assert refused["state"] == "failed" and "no smaller memory plan" in refused["text"]
    (refused,) = states(handlers.run_again(ASKED, {"size": "huge", "seed": 3}, "page"))
    assert "width × height" in refused["text"]


def test_other_failures_offer_nothing(tmp_path):
    engine = FakeEngine(fail=MemoryPlanError("Memory ran out while generating."))
    executor = LocalExecutor(load_fake(engine), 2, load_texts())
    executor.start()
    assert executor._settled.wait(20)
    handlers = Handlers(executor, Outputs(tmp_path), load_texts())
    last = states(handlers.generate(ASKED, "page"))[-1]
    assert [one["size"] for one in last["remedies"]] == ["48 × 48"]
    engine.fail = ZeroDivisionError()
    assert states(handlers.generate(ASKED, "page"))[-1]["remedies"] == []
