import inspect
from types import SimpleNamespace

import gradio as gr
import pytest
from fake_engine import INFO, FakeEngine, FakeInfo, load_fake

from demo.executors import LocalExecutor, Readiness
from demo.handlers import Handlers
from demo.outputs import Outputs
from demo.recipes import linked_fields
from demo.regions.studio import Start
from demo.serve import events_of
from demo.strings import load_texts
from demo.ui import build
from demo.wiring import show_model
from latte_core import GenerationRequest, Loading

TEXTS = load_texts()
STEPS, GUIDANCE, BUDGET, FRAMES = 3, 4, 6, 7  # where these fields' updates stand in a model update


@pytest.fixture
def page(tmp_path):
    executor = LocalExecutor(load_fake(FakeEngine()), 2, TEXTS)
    start = Start(12, 2.5, {"examples": ["a cow"]})
    return build({"en": Handlers(executor, Outputs(tmp_path), TEXTS)}, start)


def component(page, elem_id):
    return next(block for block in page.blocks.values() if block.elem_id == elem_id)


def test_page_offers_three_endpoints_with_the_fields_of_a_request(page):
    events = events_of(page)
    names = tuple(inspect.signature(GenerationRequest).parameters)
    axes = ("x", "x_values", "y", "y_values")
    assert dict(events.by_name) == {"generate": names, "sweep": (*axes, *names), "status": ()}
    assert len(events.by_index) == len(page.fns)


def test_page_starts_with_what_the_manifest_says(page):
    assert component(page, "steps").value == 12
    assert component(page, "guidance").value == 2.5
    chips = [block.value for block in page.blocks.values() if "chip" in (block.elem_classes or [])]
    assert chips[0] == "a cow" and len(chips) == len(TEXTS.many("examples")) == len(set(chips))


def test_page_asks_the_model_one_thing_less_when_the_start_was_right():
    ready = Readiness(Loading("ready", "there", 1.0), INFO)
    right = show_model(ready, TEXTS, Start(6, 3.0))
    assert right[STEPS] == gr.skip() and right[GUIDANCE] == gr.skip()
    wrong = show_model(ready, TEXTS, Start(7, 4.0))
    assert wrong[STEPS]["value"] == 6 and wrong[GUIDANCE]["value"] == 3.0


def test_prompt_shows_the_first_example_of_the_model_that_came():
    chips = len(TEXTS.many("examples"))
    info = FakeInfo(**{**vars(INFO), "card": {"examples": ["a cow dances"]}})
    updates = show_model(Readiness(Loading("ready", "", 1.0), info), TEXTS, Start())
    assert updates[-chips]["value"] == updates[-chips - 6]["placeholder"] == "a cow dances"


def test_budget_begins_with_the_work_of_the_models_own_step_plan():
    def budget(plan, linked=frozenset()):
        own = SimpleNamespace(**{**vars(INFO.defaults), "plan": plan})
        info = FakeInfo(**{**vars(INFO), "defaults": own})
        return show_model(Readiness(Loading("ready", "", 1.0), info), TEXTS, Start(), linked)[
            BUDGET
        ]

    assert budget("full") == budget("alternate", {"plan"}) == gr.update(interactive=True)
    assert budget("alternate") == gr.update(interactive=True, value=67)


@pytest.mark.parametrize(
    ("conditioning", "shown"),
    [("text", None), ("class", (0, 1, 0, 0, 0, 1)), ("none", (0, 0, 1, 0, 0, 0))],
)
def test_page_asks_for_what_the_model_reads(conditioning, shown):
    names = ("cat", "12")
    info = FakeInfo(**{**vars(INFO), "conditioning": conditioning, "classes": names})
    told = show_model(Readiness(Loading("ready", "there", 1.0), info), TEXTS, Start())
    fields = told[12:18]  # prompt, class, their place's line, negative prompt, the stills' own two
    if conditioning == "text":
        assert fields == [gr.update(placeholder=told[18]["value"]), *[gr.skip()] * 5]
    else:
        assert tuple(int(field["visible"]) for field in fields) == shown
        assert fields[1]["choices"] == [("cat", 0), ("Class 12", 1)] and fields[1]["value"] == 0
    assert all(chip["visible"] == (conditioning == "text") for chip in told[18:])


def test_page_exists_in_every_language(tmp_path):
    executor = LocalExecutor(load_fake(FakeEngine()), 2, TEXTS)
    spoken = {name: load_texts(name) for name in ("en", "ru", "zh")}
    handlers = {name: Handlers(executor, Outputs(tmp_path), spoken[name]) for name in spoken}
    config = build(handlers).get_config_file()
    for page, name in (("", "en"), ("ru", "ru"), ("zh", "zh")):
        ids = set(config["page"][page]["components"])
        labels = {
            one["props"].get("value")
            for one in config["components"]
            if one["id"] in ids and one["type"] == "button"
        }
        assert spoken[name]("prompt.generate") in labels


def test_page_updates_the_same_widgets_in_every_state_of_the_model():
    loading = Loading("weights", "reading", 0.4)
    states = [Readiness(loading), Readiness(loading, failure="No."), Readiness(loading, INFO)]
    updates = [show_model(state, TEXTS, Start()) for state in states]
    assert len({len(update) for update in updates}) == 1
    for update, state in zip(updates, ("loading", "failed", "ready"), strict=True):
        assert f'data-state="{state}"' in update[0]
    assert "reading (40 %)" in updates[0][0] and "No." in updates[1][0]


@pytest.mark.parametrize(("language", "unit"), [("en", "GB"), ("ru", "ГБ"), ("zh", "GB")])
def test_page_shows_the_bytes_of_a_download(language, unit):
    fetch = Loading("fetch", "", 0.05, 1_204_000_000, 23_600_000_000)
    line = show_model(Readiness(fetch), load_texts(language), Start())[0]
    assert "1.20" in line and f"23.60 {unit}" in line and "5" in line


def test_what_a_link_has_set_stays_when_the_model_comes():
    query = {"v": "1", "prompt": "a cat", "steps": "3", "guidance": "9", "frames": "24"}
    linked = linked_fields(query)
    assert linked == {"prompt", "num_inference_steps", "guidance_scale", "num_frames"}
    ready = Readiness(Loading("ready", "there", 1.0), INFO)
    plain, kept = (show_model(ready, TEXTS, Start(), fields) for fields in ((), linked))
    assert plain[STEPS]["value"] == 6 and plain[GUIDANCE]["value"] == 3.0
    assert kept[STEPS] == kept[GUIDANCE] == gr.skip()
    assert plain[FRAMES]["value"] == 8 and "value" not in kept[FRAMES] and kept[FRAMES]["visible"]
    assert linked_fields({"v": "1", "steps": "many"}) == linked_fields({}) == frozenset()
