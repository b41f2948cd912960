"""The tab that looks inside, on the real engine with a tiny random model."""

import base64
import json
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from demo.executors import LocalExecutor
from demo.handlers import Handlers
from demo.history import History
from demo.looking import Looker, maps_of
from demo.outputs import Outputs
from demo.regions.studio import Start, Studio
from demo.strings import load_texts
from latte_core import Engine, GenerationRequest, Inspected, Inspection


@pytest.fixture(scope="module")
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def studio(engine, tmp_path_factory):
    folder, texts = tmp_path_factory.mktemp("looking"), load_texts()
    executor = LocalExecutor(lambda on_progress: engine, 2, texts)
    executor.start()
    history = History(folder / "runs", private=True)
    return Studio(Handlers(executor, Outputs(folder), texts, history), "en", Start())


def page(visitor="ann"):
    return SimpleNamespace(cookies={}, session_hash=visitor)


def keep(studio, engine, **fields):
    from demo.visitors import owner_of

    request = GenerationRequest("a red cow", seed=4, num_inference_steps=3, **fields)
    made = engine.generate(request)
    return studio.handlers.history.add(made, request.mode, owner_of(page()))


def look(studio, **data):
    found = Looker(studio).look(gr.EventData(None, data), page())
    return [json.loads(value) for value in found]


def unpack(packed, *shape):
    values = np.frombuffer(base64.b64decode(packed["values"]), np.uint8).reshape(shape)
    return values / 255 * packed["peak"]


def test_film_of_the_history_is_looked_into(studio, engine):
    entry = keep(studio, engine)
    values = look(studio, key=entry.key, step=2)
    assert {value["state"] for value in values[:-1]} == {"running"}
    last = values[-1]
    assert last["state"] == "finished" and last["key"] == entry.key
    assert (last["step"], last["total"], last["variant"]) == (2, 3, 1)
    assert (last["rows"], last["columns"], last["strip"]["frames"]) == (4, 4, 8)
    assert [block["axes"] for block in last["blocks"]] == [["space"], ["time"]] * 2
    assert last["places"] == list(range(16))
    for block in last["blocks"]:
        for kind, columns in (("space", 16), ("time", 8)):
            if block[kind]:
                rows = unpack(block[kind], 16, 8, columns).sum(-1)
                assert np.allclose(rows, 1, atol=0.05)  # bytes are coarse
    assert len(json.dumps(last)) < 200_000


def test_maps_on_the_page_are_those_of_the_engine(studio, engine):
    entry = keep(studio, engine)
    request = GenerationRequest("a red cow", seed=4, num_inference_steps=3)
    found = list(engine.submit(Inspection(request, 1)).events())[-1]
    assert isinstance(found, Inspected)
    shown = look(studio, key=entry.key, step=1)[-1]
    assert shown["blocks"] == maps_of(found)["blocks"]
    times = unpack(shown["blocks"][1]["time"], 16, 8, 8)
    peak = shown["blocks"][1]["time"]["peak"]
    assert np.abs(times - found.blocks[1].time).max() <= peak / 255


@pytest.mark.parametrize("step", [0, 99, None, "2", 1.5])
def test_steps_that_there_are_not_are_refused_in_a_sentence(studio, engine, step):
    entry = keep(studio, engine)
    last = look(studio, key=entry.key, step=step)[-1]
    assert last["state"] == "failed" and "the steps 1 to 3" in last["text"]


@pytest.mark.parametrize("key", [None, "", "f" * 32, 5])
def test_films_that_are_not_there_are_refused_in_a_sentence(studio, key):
    assert "not there any more" in look(studio, key=key, step=1)[-1]["text"]


def test_stills_are_refused_in_a_sentence(studio, engine):
    entry = keep(studio, engine, mode="image")
    last = look(studio, key=entry.key, step=1)[-1]
    assert last["state"] == "failed" and "clip" in last["text"]


def test_large_frames_are_looked_at_on_an_even_grid(studio):
    looker = Looker(studio)
    assert looker._places({"height": 128, "width": 128}) == ()
    places = looker._places({"height": 512, "width": 512})
    assert len(places) == 64 and places[0] == 2 * 32 + 2 and places[-1] == 30 * 32 + 30 - 0
    assert looker._places({}) == ()
