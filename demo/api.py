"""The endpoints for clients: the only events of the page that have a name.

Their values come unchecked (`GenerationRequest` checks them); the hidden fields below tell clients
the name, the type, the choices and the default of every parameter.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from demo.handlers import ApiResult
from demo.recipes import LISTS
from demo.regions.studio import UNCHECKED, Studio
from demo.sweeping import SheetResult, Sweeping
from demo.sweeps import AXES
from latte_core import GenerationRequest

HIDDEN: dict[str, Any] = {"visible": False}
CHOICES = {"mode": ("video", "image", "joint")}
AXIS_FIELDS = ("x", "x_values", "y", "y_values")
# What tools of MCP say of every parameter.
PARAMETERS = {
    "prompt": "what the video shows; empty for a model of classes",
    "negative_prompt": "what it should not show",
    "mode": "video, image (stills), or joint (a clip and stills in one pass)",
    "num_images": "number of stills in mode image or joint, 1 to 8",
    "seed": "whole number from 0; the same seed makes the same video; a fresh one if left out",
    "num_inference_steps": "denoising steps, 1 to 250",
    "guidance_scale": "how strictly the prompt is followed, 1 to 30",
    "num_frames": "length of the clip in frames",
    "height": "in pixels, a multiple of 16",
    "width": "in pixels, a multiple of 16",
    "scheduler": "sampler, such as ddim, dpm++2m or unipc; /status lists them",
    "class_label": "class of the video for a model of classes, from 0; /status lists them",
    "image_class_labels": "classes of the stills, with commas between",
    "image_prompts": "prompts of the stills, a line each; an empty line takes the video's prompt",
    "plan": "step plan, which saves work; /status lists them; full leaves nothing out; the model's "
    "own by default",
    "turbo": "whether to take the model's few-step transformer, if it has one",
    "tempo": "how a longer clip moves: stretch or steady; the model's own if left out",
    "first_frame": "picture that the clip begins with, as a data URL of at most 128 KiB",
    "x": "the setting that runs along the columns",
    "x_values": "its values, up to five, with commas between",
    "y": "the setting that runs along the rows; none if left out",
    "y_values": "its values, up to five, with commas between",
}


def publish(studio: Studio) -> None:
    """Publish `/generate`, `/sweep` and `/status`."""
    fields = dataclasses.fields(GenerationRequest)
    sweeping = Sweeping(studio.handlers)

    def generate(*values: Any) -> Iterator[ApiResult]:
        asked = dict(zip((field.name for field in fields), values, strict=True))
        yield from studio.handlers.generate_for_client(_typed(asked))

    def sweep(*values: Any) -> Iterator[SheetResult]:
        axes = dict(zip(AXIS_FIELDS, values[:4], strict=True))
        asked = dict(zip((field.name for field in fields), values[4:], strict=True))
        yield from sweeping.for_client(_typed(asked), axes)

    def status() -> dict[str, Any]:
        return sweeping.status()

    own = inspect.signature(GenerationRequest)
    added = [_parameter(name, default) for name, default in _AXIS_DEFAULTS.items()]
    generate.__signature__ = own  # type: ignore[attr-defined]
    sweep.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*added, *(_optional(p) for p in own.parameters.values())]
    )
    clip, still = gr.File(label="clip", **HIDDEN), gr.File(label="picture", **HIDDEN)
    stills = gr.File(label="stills", file_count="multiple", **HIDDEN)
    _publish(studio, generate, _request_fields(), [clip, stills, _report("recipe")])
    table = gr.File(label="table", **HIDDEN)
    sheet = gr.File(label="sheet", **HIDDEN)
    _publish(
        studio,
        sweep,
        [*_axis_fields(), *_request_fields()],
        [sheet, still, table, _report("report")],
    )
    _publish(studio, status, [], [_report("status")])


_AXIS_DEFAULTS = {"x": "steps", "x_values": "4, 8, 16", "y": None, "y_values": ""}


def _publish(
    studio: Studio, function: Callable[..., Any], inputs: list[Any], outputs: list[Any]
) -> None:
    name = function.__name__
    function.__doc__ = _document(studio.texts(f"api.{name}"), inspect.signature(function))
    gr.Button(**HIDDEN).click(
        function,
        inputs,
        outputs,
        api_name=name,
        api_description=studio.texts(f"api.{name}"),
        show_progress="hidden",
        concurrency_limit=None,
        **UNCHECKED,
    )


def _document(description: str, signature: inspect.Signature) -> str:
    """A docstring as Gradio reads it for the tools of MCP."""
    lines = [f"    {name}: {PARAMETERS.get(name, name)}" for name in signature.parameters]
    return "\n".join([description, "", *(["Args:", *lines] if lines else [])])


def _parameter(name: str, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _optional(parameter: inspect.Parameter) -> inspect.Parameter:
    """With a default, so that it may stand behind parameters that have one."""
    missing = parameter.default is inspect.Parameter.empty
    return parameter.replace(default="") if missing else parameter


def _report(label: str) -> gr.JSON:
    return gr.JSON(label=label, **HIDDEN)


def _axis_fields() -> list[Any]:
    fields: list[Any] = []
    for name, default in _AXIS_DEFAULTS.items():
        if name in ("x", "y"):
            fields.append(gr.Dropdown(list(AXES), value=default, label=name, **HIDDEN))
        else:
            fields.append(gr.Textbox(label=name, value=default, **HIDDEN))
    return fields


def _request_fields() -> list[Any]:
    return [_field(field) for field in dataclasses.fields(GenerationRequest)]


def _field(field: dataclasses.Field[Any]) -> Any:
    """The hidden field of one field of a request."""
    default = None if field.default is dataclasses.MISSING else field.default
    kind, options = str(field.type), {"label": field.name, **HIDDEN}
    if field.name in CHOICES:
        return gr.Dropdown(list(CHOICES[field.name]), value=default, **options)
    if "tuple" in kind:  # a list as text: the gate lets no lists through
        return gr.Textbox(value="", **options)
    if kind == "bool":
        return gr.Checkbox(value=bool(default), **options)
    if "str" in kind:
        return gr.Textbox(value=default, **options)
    return gr.Number(value=default, precision=0 if "int" in kind else None, **options)


def _typed(asked: dict[str, Any]) -> dict[str, Any]:
    """Lists out of text, `1, 2`; what is no number stays text, which the request refuses.

    Prompts of stills have a line each; an empty line is the clip's prompt.
    """
    for name, between in LISTS.items():
        text = asked.get(name)
        if not isinstance(text, str):
            continue
        parts = tuple(part.strip() for part in text.split(between))
        if name == "image_prompts":
            asked[name] = parts if text else ()
        else:
            asked[name] = tuple(int(p) if p.isdecimal() else p for p in parts if p)
    return asked
