"""A recipe as link, command, program and JSON: each gives the same request when it is read."""

import ast
import dataclasses
import json
import shlex
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest

from demo.recipes import OPTIONS, as_command, as_python, as_query, copies_of, from_query, request_of
from latte_core import GenerationRequest, LatteError, RequestError
from latte_core.cli import _parser
from latte_core.cli_generate import _request, _with_classes

PLAIN = GenerationRequest("a red cow")
ODD = GenerationRequest(
    prompt='it\'s "10 %" of $HOME & a \\ cow; été\u2028🐄 <b>#?=+',
    negative_prompt="--help",
    mode="joint",
    num_images=3,
    seed=4294967295,
    num_inference_steps=17,
    guidance_scale=7.25,
    num_frames=16,
    height=64,
    width=96,
    scheduler="euler",
)
STILLS = GenerationRequest("-a prompt like an option", mode="image", num_images=2, seed=0)
CLASSES = GenerationRequest(mode="joint", class_label=3, image_class_labels=(1, 2), seed=1)
OWN = GenerationRequest("a cow", mode="joint", image_prompts=("a cat, 'red'", "", "--out"), seed=1)
REQUESTS = pytest.mark.parametrize(
    "request_",
    [PLAIN, ODD, STILLS, CLASSES, OWN],
    ids=["plain", "odd", "stills", "classes", "own"],
)


@REQUESTS
def test_link_gives_the_same_request(request_):
    query = as_query(request_)
    assert len(query) < 2000 and query.isascii()
    parts = urlsplit("https://studio.example/" + query)  # the standard library's own reader
    assert parts.fragment == ""
    assert from_query(dict(parse_qsl(parts.query, strict_parsing=True))) == request_
    assert from_query(dict(parse_qsl(parts.query)) | {"seed": "5"}) == replace(request_, seed=5)


@REQUESTS
def test_command_line_gives_the_same_request(request_):
    program, option, module, *arguments = shlex.split(as_command(request_))
    assert (program, option, module) == ("python", "-m", "latte_core")
    info = SimpleNamespace(class_index=int)  # a model whose classes are numbers
    parsed = _parser("generate").parse_args(arguments)
    assert _with_classes(_request(parsed), parsed, info) == request_


def test_every_field_of_a_request_has_its_option():
    fields = {field.name for field in dataclasses.fields(GenerationRequest)}
    assert fields == {"prompt", *OPTIONS}


@REQUESTS
def test_program_makes_the_same_request_and_writes_its_files(request_, tmp_path, monkeypatch):
    made = []

    class FakeEngine:
        @classmethod
        def load(cls, model):
            return cls()

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def generate(self, request):
            made.append(request)
            return type("Made", (), {"frames": 0, "stills": (1, 2), "fps": 8, "recipe": {}})()

    written = []
    source = as_python(request_)
    imported = {a.name for node in ast.parse(source).body[:1] for a in node.names}
    writer = "write_still" if request_.mode == "image" else "write_clip"
    assert imported == {"Engine", "GenerationRequest", writer}
    monkeypatch.setattr("latte_core.Engine", FakeEngine, raising=False)
    monkeypatch.setattr(f"latte_core.{writer}", lambda *a: written.append(a), raising=False)
    exec(compile(source, "recipe.py", "exec"), {})
    assert made == [request_]
    assert len(written) == (2 if request_.mode == "image" else 1)


@REQUESTS
def test_json_gives_the_same_request_and_keeps_the_rest(request_):
    recipe = {**request_.to_dict(), "version": "9.9", "model": "tiny"}
    copies = copies_of(recipe)
    assert set(copies) == {"link", "command", "python", "json"}
    read = json.loads(copies["json"])
    assert request_of(read) == request_ and read["version"] == "9.9"


def test_links_of_others_are_no_links_of_ours():
    assert from_query({}) is None
    assert from_query({"prompt": "a cow"}) is None
    assert from_query({"v": "2", "prompt": "a cow"}) is None
    assert from_query({"v": "1", "prompt": "a cow", "__theme": "dark"}) == GenerationRequest(
        "a cow"
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"prompt": "a", "seed": "soon"}, "seed"),
        ({"prompt": "a", "steps": "1e999"}, "num_inference_steps"),
        ({"prompt": "a", "steps": "9999"}, "num_inference_steps"),
        ({"prompt": "a", "guidance": "nan"}, "guidance_scale"),
        ({"prompt": "a", "mode": "<script>"}, "mode"),
        ({"prompt": "a\x00b"}, "prompt"),
        ({"prompt": "a" * 301}, "prompt"),
    ],
)
def test_links_with_faults_are_refused_by_field(query, field):
    with pytest.raises(RequestError) as caught:
        from_query({"v": "1", **query})
    assert caught.value.field == field


@pytest.mark.parametrize("recipe", [{}, {"a": 1}, {"Prompt": "x"}])
def test_foreign_recipes_are_refused_in_a_sentence(recipe):
    with pytest.raises(LatteError, match="not made by Latte Studio"):
        request_of(recipe)


def test_link_that_would_be_too_long_is_left_out_alone():
    copies = copies_of({"prompt": "ж" * 300, "negative_prompt": "щ" * 300, "seed": 1})
    assert copies["link"] == "" and all(copies[name] for name in ("command", "python", "json"))
