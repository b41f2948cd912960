import numpy as np
import pytest

from demo.story import Files, Story
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
    events = [Encoded(3, (), 0.1), *(step(i) for i in range(11)), *(Decoding(i, 4) for i in (1, 4))]
    states = [story.begun(8), *(story.tell(event) for event in events), story.saving()]
    states.append(story.finished(Files("v.mp4", (), (), "facts"), 12.3))
    shares = [state.progress for state in states if state.progress is not None]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert states[0].text == "Reading the prompt"
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
    assert noted == "The model does not know the word “zeppelin”; the film may ignore it."
    assert story.tell(step(3)).note == noted
    two = story.tell(Encoded(3, ("zeppelin", "<b>"), 0.1)).note
    assert "words “zeppelin”, “<b>”" in two


def test_story_says_where_it_stopped(story):
    assert story.stopped(Cancelled(4, 10)).text.startswith("Stopped at step 4 of 10.")
    assert story.stopped(Cancelled()).text == "Stopped before the first step."


def test_story_says_what_a_waiting_job_waits_for(story):
    assert story.queued(1).text == "Next in line"
    assert story.queued(3).text == "Number 3 in line"
    loading = story.loading(Loading("weights", "reading the weights", 0.4))
    assert loading.text == "Loading the model: reading the weights (40 %)"


def test_story_ignores_events_that_it_does_not_know(story):
    assert story.tell(Loading("weights", "late", None)) is None
