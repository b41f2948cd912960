import numpy as np
import pytest

from demo.story import Files, Story, say_loading
from demo.strings import load_texts
from latte_core import Cancelled, Decoding, Encoded, GenerationRequest, Loading, Step

NO_STILLS = np.zeros((0, 8, 8, 3), np.uint8)
FRAMES = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.fixture
def story():
    return Story(load_texts(), GenerationRequest(prompt="a cat", seed=7))


def step(index, total=10, eta_s=None):
    return Step(index, total, FRAMES, NO_STILLS, 0.5, eta_s)


def test_story_tells_stages_in_words_with_a_bar_that_only_grows(story):
    events = [step(0), Encoded(3, (), 0.1), *(step(i) for i in range(1, 11))]
    events += [Decoding(1, 4), Decoding(4, 4)]
    states = [story.begun(8), *(story.tell(event) for event in events), story.saving()]
    states.append(story.finished(Files("v.mp4", (), (), "facts"), 12.3))
    shares = [state.progress for state in states if state.progress is not None]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert states[0].text == states[1].text == "Reading the prompt"
    assert states[1].step == 0 and states[1].strip.frames == 4  # the noise is there already
    assert states[2].text == "Starting from the noise of seed 7"
    assert states[5].text == "Step 3 of 10"
    assert states[-3].text == "Developing frame 4 of 4"
    assert (states[-1].text, states[-1].video) == ("Done in 12 s", "v.mp4")


def test_story_shows_the_pictures_of_every_step_from_the_noise_on(story):
    assert [story.tell(step(i)).strip.frames for i in range(3)] == [4, 4, 4]
    assert story.tell(Decoding(1, 4)).strip is None


def test_story_gives_no_time_before_the_engine_does(story):
    assert story.tell(step(1)).detail == ""
    assert story.tell(step(2, eta_s=83)).detail == "about 1 min 23 s left"


def test_story_says_unknown_words_until_the_end(story):
    noted = story.tell(Encoded(3, ("zeppelin",), 0.1)).note
    assert noted == "I don't know “zeppelin”; the film may ignore it."
    assert story.tell(step(3)).note == noted
    two = story.tell(Encoded(3, ("zeppelin", "<b>"), 0.1)).note
    assert "know “zeppelin”, “<b>”; the film may ignore them" in two


def test_story_says_where_it_stopped(story):
    assert story.stopped(Cancelled(4, 10)).text.startswith("Stopped at step 4 of 10.")
    assert story.stopped(Cancelled()).text == "Stopped before the first step."


def test_story_says_what_a_waiting_job_waits_for(story):
    assert story.queued(1).text == "Next in line"
    assert story.queued(3).text == "Number 3 in line"
    assert story.queued(3).detail == "One film is made at a time, in the order of asking."
    assert story.queued(1, 40).detail.endswith(" The one that runs now needs about 40 s more.")
    loading = story.loading(Loading("weights", "reading the weights", 0.4))
    assert loading.text == "Loading the model: reading the weights (40 %)"


def test_story_offers_the_prompt_in_known_words(story):
    nearest = {"zeppelin": "balloon"}
    told = Story(load_texts(), GenerationRequest(prompt="A Zeppelin flies slowly.", seed=7))
    state = told.tell(Encoded(3, ("zeppelin", "slowly"), 0.1, nearest))
    assert state.reworded == "A balloon flies slowly."
    assert told.tell(step(3)).reworded == state.reworded
    # Words of another prompt of the request, or none that is near: nothing to offer.
    assert story.tell(Encoded(3, ("zeppelin",), 0.1, nearest)).reworded == ""
    assert story.tell(Encoded(3, ("slowly",), 0.1)).reworded == ""


def test_story_ignores_events_that_it_does_not_know(story):
    assert story.tell(Loading("weights", "late", None)) is None


def test_story_names_the_nearest_known_word(story):
    one = story.tell(Encoded(3, ("spaceship",), 0.1, {"spaceship": "rocket"})).note
    assert one.startswith("I don't know “spaceship”") and one.endswith(" Nearest: rocket.")
    words, nearest = ("spaceship", "zebra"), {"spaceship": "rocket"}
    assert story.tell(Encoded(3, words, 0.1, nearest)).note.endswith(
        "Nearest: rocket for “spaceship”."
    )


def test_story_lists_the_parts_of_a_run_and_their_times(story):
    def parts(state):
        return [(part.label, part.state, part.time) for part in state.parts]

    assert parts(story.begun(8))[0] == ("Prompt", "now", "")
    told = story.tell(Encoded(3, (), 0.4))
    assert parts(told)[:2] == [("Prompt", "done", "0.4 s"), ("Denoise", "now", "")]
    story.tell(step(1))
    assert parts(story.tell(step(2)))[1] == ("Denoise", "now", "1.0 s")
    assert [state for _, state, _ in parts(story.tell(Decoding(1, 4)))] == ["done", "done", "now"]
    assert {state for _, state, _ in parts(story.saving())} == {"done"}


def test_story_numbers_its_pictures(story):
    state = story.tell(step(3))
    assert (state.step, state.total) == (3, 10)


def test_story_says_what_memory_the_run_took(story):
    story.saving({"before": 0.5, "peak": 0.756, "after": 0.51})
    detail = story.finished(Files("v.mp4", (), (), ""), 3).detail
    assert detail == "memory 0.50 GiB before, 0.76 GiB at most, 0.51 GiB after"


def test_story_of_a_run_that_waits_for_a_download_moves_the_bar_by_bytes():
    story = Story(load_texts(), GenerationRequest("a cat"))
    state = story.loading(Loading("fetch", "", 0.25, 2_000_000_000, 8_000_000_000))
    assert state.text == "Fetching the model: 2.00 of 8.00 GB (25 %)" and state.progress == 0.25
    assert story.loading(Loading("verify", "Checking", 0.05)).progress is None


def test_page_says_that_a_step_plan_was_not_found(story):
    assert (
        "budget-25 was not found" in story.tell(Encoded(3, (), 0.1, {}, "full", "budget-25")).note
    )
    # Another plan was asked for: nothing is missing.
    assert not story.tell(Encoded(3, (), 0.1, {}, "alternate", "budget-25")).note


@pytest.mark.parametrize(
    ("language", "words"), [("en", "Compiling once"), ("ru", "один раз"), ("zh", "仅此一次")]
)
def test_page_says_that_it_compiles_once(language, words):
    loading = Loading("compile", "Compiling once, which takes a minute or so", 0.95)
    assert words in say_loading(load_texts(language), loading)
