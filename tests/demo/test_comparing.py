"""The sheet of the Compare tab and the `/sweep` and `/status` endpoints, on a stand-in engine."""

import json
import re
import time

import gradio as gr
import pytest
from fake_engine import INFO, FakeEngine, load_fake

from demo.comparing import make_sheet, suggest_values
from demo.executors import LocalExecutor
from demo.handlers import Handlers
from demo.outputs import Outputs
from demo.regions.studio import Start, Studio
from demo.strings import load_texts
from demo.sweeping import Sweeping
from latte_core import NonFiniteError, read_clip, read_recipe

FIELDS = {
    "prompt": "a red cat",
    "negative_prompt": None,
    "mode": "video",
    "num_images": 4,
    "seed": None,
    "num_inference_steps": 2,
    "guidance_scale": 4,
    "scheduler": "",
    "plan": 100,
    "num_frames": 8,
    "turbo": False,
    "image_prompts": "",
    "image_class_labels": "",
}
AXES = {"x": "steps", "x_values": "1, 2", "y": "guidance", "y_values": "1, 4"}


def studio(engine, tmp_path):
    texts = load_texts()
    executor = LocalExecutor(load_fake(engine), 2, texts)
    executor.start()
    return Studio(Handlers(executor, Outputs(tmp_path), texts), "en", Start())


def wait_for_model(handlers):
    while handlers.model() is None:
        time.sleep(0.01)


def sheet(engine, tmp_path, fields=None, **axes):
    made = make_sheet(studio(engine, tmp_path), FIELDS | (fields or {}), AXES | axes, "page")
    return [json.loads(value) for value in made]


def test_sheet_fills_up_cell_by_cell_and_ends_as_a_film(tmp_path):
    engine = FakeEngine()
    values = sheet(engine, tmp_path)
    counts = [len(value["cells"]) for value in values]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 4
    shares = [value["progress"] for value in values]
    assert shares == sorted(shares) and shares[-1] == 1
    last = values[-1]
    assert last["state"] == "finished" and last["columns"] == ["steps 1", "steps 2"]
    assert last["rows"] == ["guidance 1", "guidance 4"]
    assert {(cell["row"], cell["column"]) for cell in last["cells"]} == {
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    }
    assert all(cell["image"].startswith("data:image/webp") for cell in last["cells"])
    assert [link["name"] for link in last["links"]] == ["sheet.mp4", "sheet.png", "sheet.csv"]
    assert len(json.dumps(last)) < 60_000
    assert len({request.seed for request in engine.requests}) == 1  # an open seed is drawn once


def test_sheet_runs_over_step_plans(tmp_path):
    engine = FakeEngine()
    last = sheet(engine, tmp_path, y="plan", y_values="full, alternate")[-1]
    assert last["rows"] == ["plan full", "plan alternate"] and len(last["cells"]) == 4
    assert [request.plan for request in engine.requests] == ["full"] * 2 + ["alternate"] * 2


def test_axis_begins_with_values_that_the_model_has():
    assert suggest_values("plan", INFO).startswith("full, interval, ")
    assert suggest_values("sampler", INFO) == "ddim, euler"
    assert suggest_values("seed", None) == "1, 2, 3, 4"
    assert suggest_values("plan", None) == suggest_values("", INFO) == ""


def test_sheet_with_one_axis_has_one_row(tmp_path):
    last = sheet(FakeEngine(), tmp_path, y="", y_values="ignored")[-1]
    assert last["state"] == "finished" and last["rows"] == [] and len(last["cells"]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_values": "1, 9999"}, "num_inference_steps is 9999"),
        ({"x": "size"}, "An axis is one of"),
        ({"y": "steps"}, "Both axes are steps"),
        ({"fields": {"prompt": ""}}, "prompt is empty"),
        ({"fields": {"seed": "soon"}}, "seed must be"),
        ({"fields": {"mode": "joint"}}, "not both"),
        ({"y": "plan", "y_values": "full, magic"}, "plan is 'magic', but .* has: full, interval"),
    ],
)
def test_sheet_with_a_fault_is_refused_before_the_first_cell(tmp_path, change, words):
    engine = FakeEngine()
    one = studio(engine, tmp_path)
    wait_for_model(one.handlers)
    fields = change.pop("fields", {})
    values = [json.loads(v) for v in make_sheet(one, FIELDS | fields, AXES | change, "page")]
    assert [value["state"] for value in values] == ["failed"]
    assert re.search(words, values[0]["text"])
    assert engine.requests == []


def test_stopped_sheet_keeps_what_was_made(tmp_path):
    engine = FakeEngine(step_s=0.05)
    one = studio(engine, tmp_path)
    last = {}
    for value in make_sheet(one, FIELDS, AXES, "page"):
        last = json.loads(value)
        if len(last["cells"]) == 2:
            one.handlers.executor.cancel("page")
    assert last["state"] == "finished" and last["text"].startswith("Stopped.")
    assert 2 <= len(last["cells"]) < 4 and last["video"]


def test_failed_sheet_says_why(tmp_path):
    last = sheet(FakeEngine(fail=NonFiniteError("NaN at step 2.")), tmp_path, x_values="3")[-1]
    assert last["state"] == "failed" and last["text"] == "NaN at step 2."


def test_clients_get_files_and_a_row_for_every_cell(tmp_path):
    sweeping = Sweeping(studio(FakeEngine(), tmp_path).handlers)
    asked = {"prompt": "a cat", "seed": 5, "num_inference_steps": 1}
    results = list(sweeping.for_client(asked, {**AXES, "x": "seed"}))
    clip, picture, table, report = results[-1]
    assert report["state"] == "finished" and len(report["cells"]) == 4
    assert read_recipe(clip)["sheet"][0] == {"name": "seed", "values": [1, 2]}
    assert read_clip(clip).ndim == 4 and picture.endswith(".png") and table.endswith(".csv")
    assert all(result[:3] == (None, None, None) for result in results[:-1])


def test_clients_get_a_sentence_as_an_error(tmp_path):
    sweeping = Sweeping(studio(FakeEngine(), tmp_path).handlers)
    with pytest.raises(gr.Error, match=r"An axis is one of .* not '&lt;b&gt;'"):
        list(sweeping.for_client({"prompt": "a"}, {**AXES, "x": "<b>"}))


def test_status_says_what_runs_here(tmp_path):
    texts = load_texts()
    executor = LocalExecutor(load_fake(FakeEngine()), 2, texts)
    handlers = Handlers(executor, Outputs(tmp_path), texts)
    assert Sweeping(handlers).status()["ready"] is False
    executor.start()
    wait_for_model(handlers)
    status = json.loads(json.dumps(Sweeping(handlers).status()))
    assert status["ready"] and status["model"] == "fake world"
    assert status["defaults"]["num_inference_steps"] == 6
    assert (status["running"], status["waiting"]) == (0, 0)
