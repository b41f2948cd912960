"""The endpoints for clients: the only events of the page that have a name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import gradio as gr

from demo.handlers import ApiResult
from demo.regions.studio import UNCHECKED, Studio
from latte_core import GenerationRequest


def publish(studio: Studio) -> None:
    """The `/generate` endpoint: takes what `GenerationRequest` takes, by name."""
    hidden: dict[str, Any] = {"visible": False}
    fields = dataclasses.fields(GenerationRequest)

    def generate(*values: Any) -> Iterator[ApiResult]:
        names = (field.name for field in fields)
        yield from studio.handlers.generate_for_client(dict(zip(names, values, strict=True)))

    generate.__signature__ = inspect.signature(GenerationRequest)  # type: ignore[attr-defined]
    gr.Button(**hidden).click(
        generate,
        [_hidden_field(field) for field in fields],
        [
            gr.File(label="clip", **hidden),
            gr.File(label="stills", file_count="multiple", **hidden),
            gr.JSON(label="recipe", **hidden),
        ],
        api_name="generate",
        api_description=studio.texts("api.generate"),
        show_progress="hidden",
        concurrency_limit=None,
        **UNCHECKED,
    )


def _hidden_field(field: dataclasses.Field[Any]) -> gr.Textbox | gr.Number:
    """A field that is never drawn: it tells clients the name, the kind and the default."""
    default = None if field.default is dataclasses.MISSING else field.default
    if "str" in str(field.type) or field.name == "mode":
        return gr.Textbox(label=field.name, value=default, visible=False)
    return gr.Number(label=field.name, value=default, visible=False)
