"""The `/generate` endpoint and the server's doors, over HTTP, on the real engine."""

import dataclasses
import json
import re
from pathlib import Path

import gradio_client
import httpx
import pytest

from latte_core import GenerationRequest, read_clip, read_recipe


@pytest.fixture(scope="module")
def client(app_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    return gradio_client.Client(app_url, verbose=False, download_files=str(folder))


def generate(client, **values):
    return client.predict(api_name="/generate", **{"num_inference_steps": 2, **values})


def test_client_sees_three_endpoints_typed_and_described(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/generate", "/sweep", "/status"]
    names = [field.name for field in dataclasses.fields(GenerationRequest)]
    generate, sweep = (endpoints[name]["parameters"] for name in ("/generate", "/sweep"))
    assert [p["parameter_name"] for p in generate] == names
    assert [p["parameter_name"] for p in sweep] == ["x", "x_values", "y", "y_values", *names]
    assert all(p["parameter_has_default"] for p in [*generate, *sweep])
    types = {p["parameter_name"]: p["type"] for p in generate}
    assert types["prompt"] == {"type": "string"}
    assert types["num_inference_steps"] == {"type": "integer"}
    assert types["guidance_scale"] == {"type": "number"}
    assert types["mode"]["enum"] == ["video", "image", "joint"]
    assert endpoints["/status"]["parameters"] == []


def test_description_of_every_endpoint_is_in_the_apps_own_info(app_url):
    info = httpx.get(f"{app_url}/gradio_api/info").json()
    assert not info["unnamed_endpoints"]
    for name, words in (("/generate", "recipe"), ("/sweep", "X/Y sheet"), ("/status", "ready")):
        assert words in info["named_endpoints"][name]["description"]


def test_client_gets_a_sheet_with_a_row_for_every_cell(client):
    sheet, picture, table, report = client.predict(
        x="steps", x_values="1, 2", y="seed", y_values="5", prompt="a dog", api_name="/sweep"
    )
    assert read_clip(sheet).shape[0] == 8 and picture.endswith(".png")
    assert [cell["steps"] for cell in report["cells"]] == [1, 2]
    assert len(Path(table).read_text().splitlines()) == 3
    assert read_recipe(sheet)["sheet"][0] == {"name": "steps", "values": [1, 2]}
    with pytest.raises(gradio_client.exceptions.AppError, match="6 values"):
        client.predict(x_values="1,2,3,4,5,6", prompt="a dog", api_name="/sweep")


def test_client_is_told_how_the_server_is(client):
    status = client.predict(api_name="/status")
    assert status["ready"] and status["device"] == "cpu" and status["waiting"] == 0
    assert "ddim" in status["schedulers"] and status["defaults"]["num_frames"] == 8


def test_example_of_the_readme_works(app_url, capsys):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^<!-- with the app -->\n```python\n(.*?)^```$", readme, re.M | re.S)
    assert "http://localhost:7860" in block
    exec(compile(block.replace("http://localhost:7860", app_url), "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) > 4  # the model and four cells


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
        ({"prompt": "a", "num_frames": 5}, "num_frames is 5"),
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
