"""Recipes as people pass them on: a link, a command line, a Python program, JSON, and back.

A recipe is what a file carries: the fields of a `GenerationRequest`, all filled in, and what else
is known of the run. What comes from outside goes through `GenerationRequest`, which checks it.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from latte_core import GenerationRequest, LatteError

LINK_VERSION = "1"
FILM = "film"  # in a link: the key of a kept run
MAX_LINK_CHARS = 2000  # chats and mail programs break longer ones
# The options of `python -m latte_core generate`, by field; the prompt itself has none.
OPTIONS = {
    "negative_prompt": "--negative-prompt",
    "mode": "--mode",
    "num_images": "--images",
    "seed": "--seed",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "num_frames": "--frames",
    "height": "--height",
    "width": "--width",
    "scheduler": "--scheduler",
    "class_label": "--class",
    "image_class_labels": "--image-classes",
    "image_prompts": "--image-prompt",  # once for each still
    "plan": "--plan",
    "turbo": "--turbo",  # a switch
    "tempo": "--tempo",
    "first_frame": "--first-frame",
}
# Short names, so that a link fits into a message.
SHORT = {
    "negative_prompt": "negative",
    "num_images": "images",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "num_frames": "frames",
}
TEXT_FIELDS = ("prompt", "negative_prompt", "mode", "scheduler", "plan", "tempo", "first_frame")
# Between the values of a list, as text: a prompt may hold commas, but no line breaks.
LISTS = {"image_class_labels": ",", "image_prompts": "\n"}
FOREIGN = "This holds no settings of a film: it was not made by Latte Studio. Take another file."


def request_of(recipe: Mapping[str, Any]) -> GenerationRequest:
    """The request that a recipe stands for; what else it says is left out.

    Raises LatteError with a sentence if there is none or a value is outside its limits.
    """
    names = {field.name for field in dataclasses.fields(GenerationRequest)}
    asked = {name: value for name, value in recipe.items() if name in names}
    if not asked:
        raise LatteError(FOREIGN)
    return GenerationRequest(**asked)


def settings_of(request: GenerationRequest) -> dict[str, Any]:
    """The fields of a request that differ from their defaults, in its order."""
    return {
        field.name: getattr(request, field.name)
        for field in dataclasses.fields(request)
        if getattr(request, field.name) != field.default
    }


def as_query(request: GenerationRequest) -> str:
    """A link's query, `?v=1&prompt=...`; it opens the page with these settings in place.

    All but a start picture, which is too big for one.
    """
    pairs = {
        SHORT.get(name, name): _text(value, LISTS.get(name, ","))
        for name, value in settings_of(request).items()
        if name != "first_frame"
    }
    return "?" + urlencode({"v": LINK_VERSION, **pairs})


def from_query(query: Mapping[str, str]) -> GenerationRequest | None:
    """What a link asks for; None if it is no link of ours, or of another version.

    Raises LatteError with a sentence if a value is outside its limits.
    """
    if query.get("v") != LINK_VERSION or film_of(query):
        return None
    long = {short: name for name, short in SHORT.items()}
    recipe = {long.get(name, name): text for name, text in query.items()}
    return request_of({name: _value(name, text) for name, text in recipe.items()})


def as_film_link(key: str) -> str:
    """A link's query that opens the page with a kept film on its stage."""
    return "?" + urlencode({"v": LINK_VERSION, FILM: key})


def film_of(query: Mapping[str, str]) -> str:
    """The key of the film that a link opens; empty if it opens none."""
    return query.get(FILM, "") if query.get("v") == LINK_VERSION else ""


def linked_fields(query: Mapping[str, str]) -> frozenset[str]:
    """The fields of a request that a link sets: all for a film, none if it is refused."""
    if film_of(query):
        return frozenset(field.name for field in dataclasses.fields(GenerationRequest))
    try:
        request = from_query(query)
    except LatteError:
        return frozenset()
    return frozenset(settings_of(request)) if request else frozenset()


def as_command(request: GenerationRequest) -> str:
    """A line for a shell that makes the same pictures."""
    words = ["python", "-m", "latte_core", "generate"]
    for name, value in settings_of(request).items():
        if name == "image_prompts":
            words += [f"{OPTIONS[name]}={own}" for own in value]
        elif value is True:
            words.append(OPTIONS[name])
        elif name in OPTIONS:  # with = a value may begin with a dash
            words.append(f"{OPTIONS[name]}={_text(value)}")
    if request.prompt:
        words += ["--", request.prompt] if request.prompt.startswith("-") else [request.prompt]
    return shlex.join(words)


def as_python(request: GenerationRequest) -> str:
    """A program that makes the same pictures and writes them beside it."""
    fields = "".join(f"    {name}={value!r},\n" for name, value in settings_of(request).items())
    writer = "write_still" if request.mode == "image" else "write_clip"
    save = 'write_clip(made.frames, "latte.mp4", made.fps, made.recipe)\n'
    if request.mode == "image":
        save = (
            "for number, still in enumerate(made.stills, start=1):\n"
            '    write_still(still, f"latte-{number}.png", made.recipe)\n'
        )
    return (
        f"from latte_core import Engine, GenerationRequest, {writer}\n\n"
        f"request = GenerationRequest(\n{fields})\n"
        'with Engine.load("assets/latte-world") as engine:\n'
        f"    made = engine.generate(request)\n{save}"
    )


def as_json(recipe: Mapping[str, Any]) -> str:
    """The whole recipe, for other programs."""
    return json.dumps(recipe, ensure_ascii=False, indent=2)


def copies_of(recipe: Mapping[str, Any]) -> dict[str, str]:
    """All four forms, by name; no link where it would be too long for a message.

    Where there is a start picture, `lacks` names it as what the link leaves out.
    Raises LatteError as `request_of` does.
    """
    request = request_of(recipe)
    link = as_query(request)
    return {
        "link": link if len(link) <= MAX_LINK_CHARS else "",
        "command": as_command(request),
        "python": as_python(request),
        "json": as_json(recipe),
        **({"lacks": "first_frame"} if request.first_frame else {}),
    }


def _text(value: Any, between: str = ",") -> str:
    """A value as a link and a command line have it; the parts of a list with a sign between."""
    if isinstance(value, bool):
        return str(int(value))
    return between.join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value(name: str, text: str) -> Any:
    """A number where one is spelled in a field of numbers, else the text, to be refused."""
    if name in TEXT_FIELDS:
        return text
    if name == "image_prompts":
        return text.split(LISTS[name])
    if name == "turbo":
        return {"0": False, "1": True}.get(text, text)
    if name in LISTS:
        return [_value("", part) for part in text.split(LISTS[name])]
    return number_of(text)


def number_of(text: str) -> int | float | str:
    """The number that a text spells, else the text, to be refused by the request."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
