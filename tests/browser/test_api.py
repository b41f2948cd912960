"""The `/generate` endpoint and the server's doors, over HTTP, on the real engine."""

import json
import re

import gradio_client
import httpx
import pytest

from latte_core import read_clip, read_recipe


@pytest.fixture(scope="module")
def client(app_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    return gradio_client.Client(app_url, verbose=False, download_files=str(folder))


def generate(client, **values):
    return client.predict(api_name="/generate", **{"num_inference_steps": 2, **values})


def test_client_sees_one_endpoint_with_the_names_of_a_request(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/generate"]
    parameters = endpoints["/generate"]["parameters"]
    assert [p["parameter_name"] for p in parameters] == [
        "prompt",
        "negative_prompt",
        "mode",
        "num_images",
        "seed",
        "num_inference_steps",
        "guidance_scale",
        "num_frames",
        "height",
        "width",
        "scheduler",
    ]
    assert [p["parameter_has_default"] for p in parameters] == [False] + [True] * 10


def test_client_gets_the_clip_and_its_recipe_for_a_prompt_alone(client):
    clip, stills, recipe = client.predict("a red rocket", api_name="/generate")
    assert read_clip(clip).shape == (8, 64, 64, 3)
    assert stills == [] and recipe["prompt"] == "a red rocket"
    assert read_recipe(clip)["seed"] == recipe["seed"]


def test_client_gets_the_same_film_for_the_same_seed(client):
    first, again, other = (
        read_clip(generate(client, prompt="a dog", seed=seed)[0]) for seed in (5, 5, 6)
    )
    assert (first == again).all() and (first != other).any()


def test_client_gets_stills(client):
    clip, stills, _ = generate(client, prompt="a dog", mode="joint", num_images=2)
    assert clip and len(stills) == 2
    clip, stills, recipe = generate(client, prompt="a dog", mode="image")
    assert clip is None and len(stills) == 1
    assert read_recipe(stills[0])["seed"] == recipe["seed"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x" * 301}, "301 characters, the limit is 300"),
        ({"prompt": 5}, "prompt must be text"),
        ({"prompt": "a", "scheduler": "magic"}, "scheduler is 'magic', but must be one of: ddim"),
        ({"prompt": "a", "seed": 1.5}, "seed is 1.5, but must be a whole number"),
        ({"prompt": "a", "seed": -1}, "seed is -1"),
        ({"prompt": "a", "num_inference_steps": "many"}, "not 'many'"),
        ({"prompt": "a", "num_inference_steps": True}, "num_inference_steps must be"),
        ({"prompt": "a", "height": 50}, "must be a multiple of 16: take 48 or 64"),
        ({"prompt": "a", "num_frames": 9}, "num_frames is 9"),
        ({"prompt": "a", "mode": "hologram"}, "mode is 'hologram'"),
        ({"prompt": ["a"]}, "prompt is a list, but must be text"),
    ],
)
def test_client_gets_a_sentence_for_a_mistake(client, values, words):
    with pytest.raises((gradio_client.exceptions.AppError, ValueError), match=re.escape(words)):
        generate(client, **values)


def test_next_request_works_after_a_mistake(client):
    with pytest.raises(gradio_client.exceptions.AppError):
        generate(client, prompt="")
    assert generate(client, prompt="a dog")[0]


def test_nan_is_refused_by_name(app_url):
    body = '{"data": ["a", "", "video", 0, NaN, 2, null, null, null, null, null]}'
    answer = httpx.post(f"{app_url}/gradio_api/call/generate", content=body)
    assert answer.status_code == 422
    assert "NaN is not a number here" in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/run/generate"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=app.py"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/openapi.json"),
    ],
)
def test_doors_that_the_page_does_not_need_are_shut(app_url, method, path):
    answer = httpx.request(method, app_url + path, content="{}" if method == "POST" else None)
    assert answer.status_code in (403, 404)


def test_private_events_are_not_for_clients(app_url):
    answer = httpx.post(f"{app_url}/gradio_api/call/play", content=json.dumps({"data": []}))
    assert answer.status_code == 404


def test_health_says_that_the_model_is_there(app_url):
    for path in ("/healthz", "/readyz"):
        assert httpx.get(app_url + path).status_code == 200
