"""Size, tempo and start picture: what the page offers, what becomes of it, and what comes back."""

import base64
import io
import json

import gradio as gr
import httpx
import numpy as np
import pytest
from fake_engine import INFO, FakeEngine, FakeInfo, load_fake
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_handlers import FIELDS

from demo.executors import LocalExecutor
from demo.files import Files
from demo.handlers import Handlers, from_page
from demo.history import History
from demo.keeping import Keeper
from demo.outputs import Outputs
from demo.recipes import as_query, copies_of
from demo.regions.studio import Start, Studio
from demo.shelf import field_values
from demo.sizes import parse_size, size_choices
from demo.strings import load_texts
from demo.wiring import has_tempo, show_model
from latte_core import GenerationRequest, RequestError, load_picture

TEXTS = load_texts()
PICTURE, SIZE, TEMPO = 9, 10, 11  # where these fields' updates stand in a model update
NAMES = ["size", "tempo", "first_frame", "num_frames"]


def picture(width=64, height=64):
    """A picture whose columns can be told apart."""
    row = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(row[None, :, None], (height, width, 3)).copy())


def pixels(url):
    """What a browser would show: read without the code under test."""
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    )


def ready(**changes):
    from demo.executors import Readiness
    from latte_core import Loading

    info = FakeInfo(**{**vars(INFO), **changes})
    return show_model(Readiness(Loading("ready", "", 1.0), info), TEXTS, Start())


def test_sizes_begin_with_the_trained_one_and_keep_to_the_limits():
    choices = size_choices(TEXTS, INFO)
    assert choices[0] == ("64 × 64, as trained", "")
    values = [value for _, value in choices[1:]]
    assert values == ["32 × 32", "48 × 48", "96 × 64", "64 × 96", "96 × 96", "128 × 128"]
    large = FakeInfo(**{**vars(INFO), "defaults": type(INFO.defaults)(width=768, height=768)})
    offered = [value for _, value in size_choices(TEXTS, large)]
    assert "1152 × 768" not in offered and offered[0] == "" and "384 × 384" in offered
    for value in offered[1:]:
        height, width = parse_size(value)
        assert GenerationRequest(height=height, width=width)


@pytest.mark.parametrize(
    ("text", "size"),
    [("", (None, None)), (None, (None, None)), ("96 × 64", (64, 96)), (" 96x64 ", (64, 96))],
)
def test_size_is_read_as_width_then_height(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["big", "64", "64 × ", 64, "9999999 × 64", "64×64×64"])
def test_what_is_no_size_is_refused_in_words(text):
    with pytest.raises(RequestError, match="must be width × height"):
        parse_size(text)


def test_size_goes_into_the_request_and_its_limits_are_the_requests_own():
    asked = GenerationRequest(**without_plan(from_page({**FIELDS, "size": "96 × 48"}, INFO)))
    assert (asked.width, asked.height) == (96, 48)
    with pytest.raises(RequestError, match="width is 90"):
        GenerationRequest(**without_plan(from_page({**FIELDS, "size": "90 × 48"}, INFO)))


def without_plan(values):
    return {name: value for name, value in values.items() if name != "plan"}


@pytest.mark.parametrize(
    ("mode", "frames", "tempo"),
    [("video", 12, "steady"), ("video", 8, None), ("image", 12, None), ("joint", 12, "steady")],
)
def test_tempo_is_asked_for_only_by_a_clip_longer_than_trained(mode, frames, tempo):
    fields = {**FIELDS, "mode": mode, "num_frames": frames, "tempo": "steady"}
    assert from_page(fields, INFO)["tempo"] == tempo


def test_tempo_shows_where_there_is_a_choice_and_a_longer_clip():
    assert has_tempo(12, INFO) and not has_tempo(8, INFO) and not has_tempo("12", INFO)
    assert not has_tempo(12, FakeInfo(**{**vars(INFO), "tempos": ("steady",)}))
    assert ready()[TEMPO]["visible"] is False and ready()[TEMPO]["value"] == "stretch"


def test_controls_are_hidden_where_the_model_lacks_them():
    assert ready()[PICTURE] == gr.skip() and ready()[SIZE]["visible"]
    assert "Trained at 64 × 64." in ready()[SIZE]["info"]
    stills_only = ready(clip_lengths=(1,), tempos=())
    assert not stills_only[PICTURE]["visible"] and not stills_only[TEMPO]["visible"]


def test_start_picture_is_cut_to_the_clip_and_what_was_cut_stays_to_the_byte():
    wide = load_picture(picture(128, 64))
    assert pixels(wide).shape == (64, 128, 3)  # the page holds it whole
    cut = from_page({**FIELDS, "first_frame": wide}, INFO)["first_frame"]
    assert np.array_equal(pixels(cut), np.asarray(picture(128, 64))[:, 32:96])
    assert from_page({**FIELDS, "first_frame": cut}, INFO)["first_frame"] == cut
    tall = from_page({**FIELDS, "first_frame": wide, "size": "32 × 64"}, INFO)["first_frame"]
    assert pixels(tall).shape == (64, 32, 3)
    assert from_page({**FIELDS, "first_frame": wide, "mode": "image"}, INFO)["first_frame"] is None


def test_a_path_of_the_server_is_never_read_as_a_picture(tmp_path):
    secret = tmp_path / "secret.png"
    picture().save(secret)
    values = without_plan(from_page({**FIELDS, "first_frame": str(secret)}, INFO))
    with pytest.raises(RequestError, match="must be a data URL"):
        GenerationRequest(**values)


def test_large_picture_keeps_its_proportions_in_what_a_request_can_carry():
    noise = np.random.default_rng(0).integers(0, 256, (600, 1200, 3), np.uint8)
    width, height = Image.fromarray(pixels(load_picture(Image.fromarray(noise)))).size
    assert width >= 256 and width == 2 * height


@pytest.fixture
def client(tmp_path):
    app = Files(History(tmp_path / "runs"), TEXTS).router()
    with TestClient(Starlette(routes=app.routes)) as client:
        yield client


def test_server_makes_a_data_url_of_a_file_and_refuses_in_words(client):
    buffer = io.BytesIO()
    picture(80, 40).save(buffer, "PNG")
    answer = client.post("/studio/picture?name=a.png", content=buffer.getvalue())
    assert answer.status_code == httpx.codes.OK
    assert np.array_equal(pixels(answer.json()["picture"]), np.asarray(picture(80, 40)))
    answer = client.post("/studio/picture?name=a.png", content=b"no picture")
    assert answer.status_code == 422 and "no picture that can be read" in answer.json()["detail"]


def test_link_leaves_the_picture_out_and_says_so():
    url = load_picture(picture(), 64, 64)
    request = GenerationRequest("a cat", seed=1, first_frame=url, width=96, height=64)
    assert as_query(request) == "?v=1&prompt=a+cat&seed=1&height=64&width=96"
    copies = copies_of(request.to_dict())
    assert copies["lacks"] == "first_frame" and url in copies["json"] and url in copies["python"]
    assert "lacks" not in copies_of({"prompt": "a cat"})


def test_controls_come_back_from_a_recipe():
    url = load_picture(picture(), 64, 96)
    recipe = GenerationRequest(
        "a", num_frames=12, width=96, height=64, tempo="steady", first_frame=url
    ).to_dict()
    fields = field_values(recipe, NAMES, INFO)
    assert fields == {"size": "96 × 64", "tempo": "steady", "first_frame": url, "num_frames": 12}
    plain = field_values(GenerationRequest("a", height=64, width=64).to_dict(), NAMES, INFO)
    assert plain["size"] == "" and plain["first_frame"] == "" and plain["tempo"] is None
    foreign = {**recipe, "model_hash": "of another model"}
    assert field_values(foreign, NAMES, INFO)["size"] == ""


def test_run_with_a_start_picture_says_so_and_its_files_bring_it_back(tmp_path):
    executor = LocalExecutor(load_fake(FakeEngine()), 2, TEXTS)
    executor.start()
    assert executor._settled.wait(20)
    handlers = Handlers(executor, Outputs(tmp_path), TEXTS)
    url = load_picture(picture(), 64, 64)
    asked = {**FIELDS, "first_frame": url, "size": "96 × 64"}
    last = json.loads(list(handlers.generate(asked, "page"))[-1])
    assert last["state"] == "finished" and last["facts"].endswith("8 frames at 8 fps")
    assert "from a start picture" in last["facts"] and "96×64" in last["facts"]
    (entry,) = handlers.history.entries("")
    keeper = Keeper(Studio(handlers, "en", Start()), NAMES)
    size, _, back, _, line = keeper.restore(
        gr.EventData(None, {"recipe": json.dumps(entry.recipe)})
    )
    assert size == "96 × 64" and pixels(back).shape == (64, 96, 3)
    assert "own size" not in json.loads(line)["said"]
