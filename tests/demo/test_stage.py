import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from demo.stage import MAX_STRIP_CHARS, STATIC, StageState, make_strip


def opened(strip):
    head, _, data = strip.image.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def pictures(count, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def test_strip_holds_every_frame_then_every_still_in_order():
    frames, stills = pictures(16, 8, 8), pictures(4, 8, 8, seed=1)
    strip = make_strip(frames, stills)
    assert (strip.frames, strip.stills, strip.width, strip.height) == (16, 4, 8, 8)
    sheet = opened(strip)
    assert sheet.shape == (8, 160, 3)
    for index, tile in enumerate([*frames, *stills]):
        np.testing.assert_array_equal(sheet[:, 8 * index : 8 * index + 8], tile)


def test_strip_takes_stills_alone_and_frames_alone():
    none = np.zeros((0, 8, 8, 3), np.uint8)
    assert opened(make_strip(none, pictures(2, 8, 12))).shape == (8, 24, 3)
    assert opened(make_strip(pictures(3, 8, 12), none)).shape == (8, 36, 3)


@pytest.mark.parametrize(("count", "side"), [(16, 64), (24, 64), (64, 128)])
def test_strip_stays_small_also_for_pure_noise(count, side):
    strip = make_strip(pictures(count, side, side), pictures(0, side, side))
    assert len(strip.image) <= MAX_STRIP_CHARS
    assert opened(strip).shape == (strip.height, count * strip.width, 3)


def test_state_is_plain_json_that_says_everything():
    state = StageState(state="running", text='<b>"ü"</b>', progress=0.5, seed=2**32 - 1)
    value = json.loads(state.to_json())
    assert (value["state"], value["text"], value["seed"]) == ("running", '<b>"ü"</b>', 4294967295)


def test_two_states_of_the_same_words_are_two_values():
    state = StageState(state="failed", text="The prompt is empty.")
    assert state.to_json() != state.to_json()


def test_stage_script_is_small_and_sets_no_markup():
    script = (STATIC / "stage.js").read_text()
    assert len(script.encode()) < 16_000
    for door in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert door not in script


@pytest.mark.parametrize("name", ["stage.html", "stage.js", "stage.css", "page.css", "page.js"])
def test_static_files_ask_no_other_host(name):
    text = (STATIC / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text and "https:" not in text and "//cdn" not in text
