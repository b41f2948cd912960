"""The page: regions put together, once per language. Nothing here knows the model.

English is at `/`, every other language at its own address (`/ru`). A new region is a module in
regions/ and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gradio as gr

from demo.api import publish
from demo.comparing import wire_compare
from demo.handlers import Handlers
from demo.keeping import wire_shelf
from demo.looking import wire_inside
from demo.markup import key_list
from demo.recording import recorded_run
from demo.regions.ask import build_ask
from demo.regions.compare import build_compare
from demo.regions.controls import build_controls
from demo.regions.inside import build_inside
from demo.regions.masthead import build_masthead
from demo.regions.shelf import Shelf, build_history, build_recipe
from demo.regions.studio import Start, Studio
from demo.stage import build_stage
from demo.strings import DEFAULT_LANGUAGE
from demo.wiring import Widgets, follow_model, wire_run

STATIC = Path(__file__).parent / "static"
STYLES = tuple(
    STATIC / f"{name}.css" for name in ("page", "controls", "stage", "shelf", "compare", "inside")
)


def build(handlers: Mapping[str, Handlers], start: Start | None = None) -> gr.Blocks:
    """The whole page, wired. `handlers` has one value per language, English among them."""
    home = Studio(handlers[DEFAULT_LANGUAGE], DEFAULT_LANGUAGE, start or Start())
    with gr.Blocks(
        title=home.texts("app.title"),
        analytics_enabled=False,
        delete_cache=(3600, 6 * 3600),
        fill_width=True,
    ) as page:
        _build_page(page, home)
        publish(home)
    for language in sorted(set(handlers) - {DEFAULT_LANGUAGE}):
        studio = Studio(handlers[language], language, home.start)
        with page.route(language, language, show_in_navbar=False):
            _build_page(page, studio)
    return page


def _build_page(page: gr.Blocks, studio: Studio) -> None:
    """One language. Prompt and Generate first, then the stage, then the settings, as on a phone."""
    masthead = build_masthead(studio)
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab(studio.texts("tab.studio"), id="studio"):
            ask = build_ask(studio)
            with gr.Row(elem_id="work"):
                with gr.Column(scale=5, elem_id="stage-column"):
                    stage = build_stage(studio.texts, recorded_run(studio.texts))
                    recipe = build_recipe(studio)
                with gr.Column(scale=2, min_width=280, elem_id="settings"):
                    controls = build_controls(studio)
                    gr.HTML(key_list(studio.texts), elem_id="keys", apply_default_css=False)
                    about = gr.HTML("", elem_id="about", apply_default_css=False)
            history = build_history(studio)
        with gr.Tab(studio.texts("tab.compare"), id="compare-tab"):
            compare = build_compare(studio)
        with gr.Tab(studio.texts("tab.inside"), id="inside-tab") as tab:
            inside = build_inside(studio, tab)
    widgets = Widgets(masthead, ask, controls, stage, about)
    shelf = Shelf(recipe, history, compare.films)
    wire_shelf(page, studio, widgets, shelf, wire_run(page, studio, widgets))
    wire_compare(studio, widgets, compare)
    wire_inside(studio, inside)
    follow_model(page, studio, widgets)
