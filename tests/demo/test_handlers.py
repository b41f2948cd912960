import asyncio
import json
import re
from types import SimpleNamespace

import gradio as gr
import pytest
from fake_engine import FakeEngine, load_fake

from demo.executors import LocalExecutor
from demo.handlers import Handlers
from demo.outputs import Outputs
from demo.strings import load_texts
from latte_core import NonFiniteError

FIELDS = {
    "prompt": "a red cat",
    "negative_prompt": None,
    "mode": "video",
    "num_images": 4,
    "image_prompts": "",
    "image_class_labels": None,
    "class_label": None,
    "seed": None,
    "num_inference_steps": 3,
    "guidance_scale": 4,
    "scheduler": "",
    "plan": 100,
    "num_frames": 8,
    "turbo": False,
    "size": "",
    "tempo": "stretch",
    "first_frame": "",
}


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def handlers(engine, tmp_path):
    texts = load_texts()
    executor = LocalExecutor(load_fake(engine), 2, texts)
    executor.start()
    assert executor._settled.wait(20)  # before that, nobody knows what the model is told
    return Handlers(executor, Outputs(tmp_path), texts)


def play(handlers, owner="page", **changes):
    return [json.loads(value) for value in handlers.generate(FIELDS | changes, owner)]


def test_generate_tells_the_whole_job_and_ends_with_files(handlers):
    states = play(handlers, seed=" 7 ")
    names = [state["state"] for state in states]
    assert names[-1] == "finished" and {"encoding", "running", "decoding"} <= set(names)
    assert len([state for state in states if state["strip"]]) == 4
    last = states[-1]
    assert last["seed"] == 7 and last["fps"] == 8
    assert last["video"].endswith("/latte-7.mp4")
    assert last["facts"] == "3 steps, guidance 4.0, 64×64, 8 frames at 8 fps"
    labels = ["Download film", "GIF", "WebP", "Frames (ZIP)", "Sheet (PNG)"]
    assert [link["label"] for link in last["links"]] == labels


def test_generate_draws_a_seed_and_shows_it_from_the_first_word(handlers):
    seeds = {play(handlers)[0]["seed"] for _ in range(3)}
    assert len(seeds) == 3 and all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(("mode", "frames", "stills"), [("image", 0, 2), ("joint", 8, 2)])
def test_generate_makes_stills(handlers, mode, frames, stills):
    states = play(handlers, mode=mode, num_images=stills)
    strip = next(state["strip"] for state in states if state["strip"])
    assert (strip["frames"], strip["stills"]) == (frames, stills)
    assert len(states[-1]["stills"]) == stills and bool(states[-1]["video"]) == bool(frames)


def test_generate_takes_a_prompt_of_several_lines(handlers, engine):
    play(handlers, prompt="a red\ncat")
    assert engine.requests[-1].prompt == "a red cat"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": None}, "prompt must be text"),
        ({"prompt": "x" * 301}, "301 characters, the limit is 300"),
        ({"seed": "1.5"}, "seed must be a whole number from 0 to 4294967295, not '1.5'"),
        ({"seed": "-1"}, "seed is -1"),
        ({"seed": "4294967296"}, "seed is 4294967296"),
        ({"seed": "9" * 5000}, "seed must be a whole number"),
        ({"num_inference_steps": float("nan")}, "not nan"),
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5"),
        ({"num_inference_steps": "many"}, "not 'many'"),
        ({"guidance_scale": True}, "guidance_scale must be"),
        ({"scheduler": "magic"}, "scheduler is 'magic', but must be one of: ddim"),
        ({"mode": "hologram"}, "mode is 'hologram'"),
        ({"mode": "joint", "num_images": 99}, "num_images is 99"),
    ],
)
def test_generate_answers_a_mistake_with_a_sentence_and_goes_on(handlers, engine, changes, words):
    (state,) = play(handlers, **changes)
    assert state["state"] == "failed" and words in state["text"]
    assert engine.requests == []
    assert play(handlers)[-1]["state"] == "finished"


def test_generate_answers_a_failure_with_its_sentence_and_goes_on(handlers, engine):
    engine.fail = NonFiniteError("NaN in step 2; lower the guidance.")
    assert play(handlers)[-1]["text"] == "NaN in step 2; lower the guidance."
    engine.fail = None
    assert play(handlers)[-1]["state"] == "finished"


@pytest.mark.parametrize(
    ("conditioning", "class_label", "guidance"), [("class", 2, 4.0), ("none", None, None)]
)
def test_model_without_a_prompt_gets_only_what_it_reads(
    handlers, engine, conditioning, class_label, guidance
):
    engine.info.conditioning, engine.info.classes = conditioning, ("cat", "dog", "bee")
    states = play(handlers, prompt="typed before the model was there", class_label=2)
    assert states[-1]["state"] == "finished"
    asked = engine.requests[-1]
    assert (asked.prompt, asked.class_label) == ("", class_label)
    assert asked.guidance_scale == guidance


def test_lines_become_own_prompts_of_the_stills(handlers, engine):
    for text, count, own in (
        ("a dog\n\n a cow ", 4, ("a dog", "", "a cow", "")),
        ("\n\n", 3, ()),
        ("a dog\n", 1, ("a dog",)),
    ):
        play(handlers, mode="joint", num_images=count, image_prompts=text)
        assert engine.requests[-1].image_prompts == own
    play(handlers, mode="video", image_prompts="a dog")
    assert engine.requests[-1].image_prompts == ()
    (state,) = play(handlers, mode="joint", num_images=1, image_prompts="a dog\na cow")
    assert "2 prompts for 1 stills" in state["text"]


def test_lines_become_own_classes_of_the_stills_by_name_or_number(handlers, engine):
    engine.info.conditioning, engine.info.classes = "class", ("cat", "dog", "bee")
    asked = {"class_label": 1, "mode": "joint", "num_images": 3, "image_prompts": "no text here"}
    play(handlers, **asked, image_class_labels="Bee\n\n0")
    assert engine.requests[-1].image_class_labels == (2, 1, 0)
    (state,) = play(handlers, **asked, image_class_labels="beetle")
    assert state["state"] == "failed" and "bee (2)" in state["text"]


def test_budget_chooses_the_step_plan_with_the_nearest_share(handlers, engine):
    for budget, plan in (
        (100, None),
        (99.5, "full"),
        (80, "guidance-cache"),
        (25, "alternate-cache"),
    ):
        play(handlers, num_inference_steps=20, plan=budget)
        assert engine.requests[-1].plan == plan
    engine.info.defaults = SimpleNamespace(**{**vars(engine.info.defaults), "plan": "alternate"})
    play(handlers, num_inference_steps=20, plan=100)
    assert engine.requests[-1].plan == "full"  # all of the work is not the model's own plan
    share = engine.info.plan_shares("ddim", 20)["alternate"]
    play(handlers, num_inference_steps=20, plan=100 * share)
    assert engine.requests[-1].plan is None  # the engine knows where its own plan was found
    assert handlers.say_budget(80, 20, "") == ("guidance-cache", 0.8)
    assert handlers.say_budget(100, 20, "") == ("", 1.0)
    for garbage in ("many", None, [1], -5):
        assert handlers.say_budget(garbage, 20, "")[1] == 1.0
        assert handlers.say_budget(50, garbage, "magic") == ("", 1.0)
        (state,) = play(handlers, plan=garbage)
        assert state["state"] == "failed" and re.search("budget (must be|is -)", state["text"])


def test_turbo_leaves_its_steps_and_guidance_to_the_model(handlers, engine):
    engine.info.turbo = True
    asked = {"turbo": True, "negative_prompt": "rain", "plan": 50, "guidance_scale": 7}
    assert play(handlers, **asked)[-1]["state"] == "finished"
    made = engine.requests[-1]
    assert (made.turbo, made.num_inference_steps, made.guidance_scale) == (True, None, None)
    assert (made.negative_prompt, made.plan) == ("", None)


def test_clip_is_as_long_as_asked_for(handlers, engine):
    states = play(handlers, num_frames=24)
    assert engine.requests[-1].num_frames == 24 and "24 frames" in states[-1]["facts"]
    engine.info.clip_lengths = (1, 8)  # no choice: the field is hidden, what it holds is dropped
    play(handlers, num_frames=16)
    assert engine.requests[-1].num_frames is None
    engine.info.clip_lengths = (1, *range(8, 65))
    assert "num_frames is 7" in play(handlers, num_frames=7)[-1]["text"]


def test_mistakes_of_the_page_are_told_in_its_language(handlers, tmp_path):
    russian = load_texts("ru")
    handlers = Handlers(handlers.executor, Outputs(tmp_path), russian)
    assert play(handlers, prompt="")[0]["text"] == russian("error.empty")
    assert play(handlers)[-1]["text"].startswith("Готово за ")


def test_stop_ends_the_job_and_says_at_which_step(handlers, engine):
    engine.step_s = 0.01
    states = handlers.generate(FIELDS | {"num_inference_steps": 250}, "page")
    while json.loads(next(states))["text"] != "Step 3 of 250":
        pass
    handlers.stop(SimpleNamespace(session_hash="page"))
    last = [json.loads(value) for value in states][-1]
    assert last["state"] == "stopped" and last["text"].startswith("Stopped at step ")
    assert not engine.in_model.locked()


def test_stop_of_a_waiting_job_is_answered_at_once(handlers, engine):
    engine.step_s = 20
    first = handlers.generate(FIELDS, "first")
    while not json.loads(next(first))["strip"]:
        pass
    waiting = handlers.generate(FIELDS, "waiting")
    assert json.loads(next(waiting))["text"] == "Next in line"
    handlers.stop(SimpleNamespace(session_hash="waiting"))
    assert json.loads(next(waiting))["text"] == "Stopped before the first step."
    assert engine.in_model.locked()
    first.close()


def test_closing_the_stream_frees_the_model(handlers, engine):
    engine.step_s = 20
    states = handlers.generate(FIELDS, "page")
    while not json.loads(next(states))["strip"]:
        pass
    states.close()
    engine.step_s = 0
    assert play(handlers, owner="other")[-1]["state"] == "finished"


def test_client_endpoint_gives_progress_then_files_and_recipe(handlers):
    results = list(handlers.generate_for_client({"prompt": "a cat", "mode": "joint", "seed": 5}))
    clip, stills, recipe = results[-1]
    assert clip.endswith("latte-5.mp4") and len(stills) == 4
    assert recipe["seed"] == 5
    assert [clip for clip, _, _ in results[:-1]] == [None] * (len(results) - 1)
    assert results[-2][2]["progress"] == 0.99


def test_client_endpoint_raises_sentences_without_markup(handlers):
    with pytest.raises(gr.Error) as caught:
        list(handlers.generate_for_client({"prompt": "a", "scheduler": "<b>"}))
    assert "scheduler is '&lt;b&gt;', but must be one of" in str(caught.value.message)


def test_take_words_takes_only_words(handlers):
    def take(prompt):
        return handlers.take_words(gr.EventData(None, {"prompt": prompt}))

    assert take("a cat") == "a cat"
    assert all(take(other) == gr.skip() for other in ("", None, 7, ["a cat"]))


def test_keep_seed_takes_only_a_seed(handlers):
    def kept(seed):
        return handlers.keep_seed(gr.EventData(None, {"seed": seed}))

    assert kept(2**32 - 1) == "4294967295"
    for wrong in (-1, 2**32, 1.5, "7", None, True, [1]):
        assert kept(wrong) == gr.skip()


def test_watch_model_ends_when_the_model_is_there(handlers):
    async def watch():
        return [readiness async for readiness in handlers.watch_model()]

    seen = asyncio.run(asyncio.wait_for(watch(), 20))
    assert seen[-1].info.card["name"] == "fake world"
