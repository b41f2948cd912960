"""What is under the stage: the recipe of the film on show, and the history."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from demo.regions.script import build_script
from demo.regions.studio import Studio

RECIPE_WORDS = (
    *("title", "pick", "hint", "drop", "copied", "reading", "offline"),
    *("link", "film", "command", "python", "json", "lacks", "shared", "picture"),
)
HISTORY_WORDS = ("title", "empty", "load", "vary", "compare", "remove", "sure", "seed", "tab")


@dataclass(frozen=True)
class Shelf:
    """What a finished run changes. The values are JSON strings, see demo/shelf.py."""

    recipe: gr.HTML
    history: gr.HTML
    films: gr.HTML


def build_recipe(studio: Studio) -> gr.HTML:
    """Copy the settings of the film on show, or read them from a file."""
    return build_script(studio, "recipe", RECIPE_WORDS, "{}")


def build_history(studio: Studio) -> gr.HTML:
    """The finished runs."""
    return build_script(studio, "history", HISTORY_WORDS, "[]")
