"""History and recipe line: what their events put where."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from fake_engine import FakeEngine, load_fake
from test_history import generation

from demo.executors import LocalExecutor
from demo.handlers import Handlers
from demo.history import History
from demo.keeping import Keeper
from demo.outputs import Outputs
from demo.recipes import linked_fields
from demo.regions.studio import Start, Studio
from demo.strings import load_texts
from latte_core import GenerationRequest

NAMES = ["prompt", "negative_prompt", "mode", "num_images", "seed", "scheduler"]
RECIPE = GenerationRequest("a cat", seed=7, num_inference_steps=5, scheduler="euler").to_dict()


@pytest.fixture
def studio(tmp_path):
    texts = load_texts()
    executor = LocalExecutor(load_fake(FakeEngine()), 2, texts)
    executor.start()
    history = History(tmp_path / "runs", private=True)
    return Studio(Handlers(executor, Outputs(tmp_path), texts, history), "en", Start())


def page(visitor="ann", **query):
    return SimpleNamespace(cookies={}, session_hash=visitor, query_params=query)


def event(**data):
    return gr.EventData(None, data or None)


def owner(visitor):
    from demo.visitors import owner_of

    return owner_of(page(visitor))


def keep(studio, seed=7, visitor="ann", mode="video", stills=0):
    made = replace(generation(seed, stills), recipe={**RECIPE, "seed": seed, "mode": mode})
    return studio.handlers.history.add(made, mode, owner(visitor))


def test_finish_gives_each_visitor_their_cards_and_the_newest_recipe(studio):
    keeper = Keeper(studio, NAMES)
    assert keeper.finish(page()) == ("{}", "[]", "[]")
    keep(studio, 1), keep(studio, 2), keep(studio, 3, "bob")
    line, cards, films = map(json.loads, keeper.finish(page()))
    assert keeper.show(page()) == keeper.finish(page())[1:]
    assert [card["seed"] for card in cards] == [2, 1] and line["seed"] == 2
    assert cards[0]["prompt"] == "a cat" and cards[0]["facts"].startswith("5 steps")
    assert json.loads(line["copies"]["json"])["seed"] == 2
    assert [film["key"] for film in films] == [card["key"] for card in cards]
    assert films[0]["label"] == "a cat · seed 2 · 5 steps" and films[0]["columns"] == 8


def test_load_puts_the_run_on_the_stage_and_its_settings_into_the_fields(studio):
    entry = keep(studio)
    state, *fields, line = Keeper(studio, NAMES).load(event(key=entry.key), page())
    state = json.loads(state)
    assert state["state"] == "finished" and state["seed"] == 7
    assert state["video"] == entry.url("latte-7.mp4")
    assert state["strip"]["frames"] == 4 and len(state["links"]) == 5
    assert fields == ["a cat", "", "video", 4, "7", "euler"]
    assert json.loads(line)["seed"] == 7


def test_load_shows_stills_too(studio):
    entry = keep(studio, mode="image", stills=2)
    state = json.loads(Keeper(studio, NAMES).load(event(key=entry.key), page())[0])
    assert state["mode"] == "image" and state["video"] == ""
    assert state["strip"]["stills"] == 2 and len(state["stills"]) == 2


@pytest.mark.parametrize("key", ["", None, 5, "f" * 32])
def test_load_of_a_run_that_is_not_there_says_so_and_changes_nothing(studio, key):
    state, *rest = Keeper(studio, NAMES).load(event(key=key), page())
    assert "not there any more" in json.loads(state)["text"]
    assert all(update == gr.skip() for update in rest)


def test_runs_of_others_cannot_be_loaded_varied_or_deleted(studio):
    entry, keeper = keep(studio, visitor="bob"), Keeper(studio, NAMES)
    assert json.loads(keeper.load(event(key=entry.key), page("ann"))[0])["state"] == "failed"
    assert "not there" in keeper.vary(event(key=entry.key), page("ann"))[-1]
    assert keeper.remove(event(key=entry.key), page("ann")) == ("[]", "[]")
    assert studio.handlers.history.get(entry.key, owner("bob"))


def test_vary_keeps_the_settings_and_opens_the_seed(studio):
    entry = keep(studio)
    *fields, line = Keeper(studio, NAMES).vary(event(key=entry.key), page())
    assert fields == ["a cat", "", "video", 4, "", "euler"] and line == gr.skip()


def test_remove_deletes_and_shows_what_is_left(studio):
    first, second = keep(studio, 1), keep(studio, 2)
    cards, films = map(json.loads, Keeper(studio, NAMES).remove(event(key=second.key), page()))
    assert (
        len(films) == 1
        and [card["key"] for card in cards] == [first.key]
        and not second.folder.exists()
    )


def test_dropped_settings_come_back_with_what_differs_here(studio):
    keeper = Keeper(studio, NAMES)
    *fields, line = keeper.restore(event(recipe=json.dumps(RECIPE)))
    assert fields == ["a cat", "", "video", 4, "7", "euler"]
    assert json.loads(line)["said"].startswith("The settings of seed 7 are back.")
    while studio.handlers.model() is None:
        time.sleep(0.01)
    other = {**RECIPE, "model": "<b>big</b>", "model_hash": "ff", "height": 512, "width": 512}
    said = json.loads(keeper.restore(event(recipe=json.dumps(other)))[-1])["said"]
    assert "made by <b>big</b>" in said and "512×512" in said
    same = json.loads(keeper.restore(event(recipe=json.dumps({**RECIPE, "height": 64})))[-1])
    assert "differ" not in same["said"] and "own size" not in same["said"]


@pytest.mark.parametrize("recipe", [None, "", "{", "[]", '{"a": 1}', '{"prompt": 5}', 7])
def test_dropped_nonsense_is_answered_in_a_sentence(studio, recipe):
    *fields, line = Keeper(studio, NAMES).restore(event(recipe=recipe))
    assert all(update == gr.skip() for update in fields)
    assert json.loads(line)["failed"] and json.loads(line)["said"].endswith(".")


def test_link_fills_the_fields_and_a_faulty_one_says_why(studio):
    keeper = Keeper(studio, NAMES)
    stage, *fields, line = keeper.open_link(
        page(v="1", prompt="a cow", seed="9", mode="image", images="2")
    )
    assert fields == ["a cow", "", "image", 2, "9", ""] and "link" in json.loads(line)["said"]
    assert stage == gr.skip()
    *fields, line = keeper.open_link(page(v="1", prompt="a", seed="x"))
    assert "seed must be" in json.loads(line)["said"] and json.loads(line)["failed"]
    assert all(update == gr.skip() for update in [*fields, *keeper.open_link(page())])


def test_film_link_opens_for_others_once_its_maker_has_shared_it(studio):
    keeper, entry = Keeper(studio, NAMES), keep(studio, 7)
    copies = json.loads(keeper.load(event(key=entry.key), page())[-1])["copies"]
    assert copies["film"] == f"?v=1&film={entry.key}" and copies["key"] == entry.key
    query = {"v": "1", "film": entry.key}
    *nothing, line = keeper.open_link(page("bob", **query))
    assert all(update == gr.skip() for update in nothing) and "not there" in line
    assert "not there" in keeper.share(event(key=entry.key), page("bob"))
    assert keeper.share(event(key=entry.key), page()) == gr.skip()
    stage, *fields, line = keeper.open_link(page("bob", **query))
    assert json.loads(stage)["state"] == "finished" and fields[0] == "a cat"
    assert json.loads(line)["said"].startswith("This film was shared with you")
    assert json.loads(line)["copies"]["film"] == copies["film"]
    assert keeper.show(page("bob")) == ("[]", "[]")  # to be seen, not to be kept
    keeper.remove(event(key=entry.key), page("bob"))
    assert studio.handlers.history.get(entry.key, owner("bob")) is not None
    keeper.remove(event(key=entry.key), page())
    assert "not there" in keeper.open_link(page("bob", **query))[-1]


def test_film_link_keeps_its_settings_while_the_model_loads():
    assert {"prompt", "num_inference_steps"} <= linked_fields({"v": "1", "film": "0" * 32})
    assert linked_fields({"v": "9", "film": "0" * 32}) == frozenset()
