"""The page: its components, and which event does what. Nothing here knows the model."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.handlers import ApiResult, Handlers
from demo.markup import about_model, brand, hint, model_line, model_name
from demo.stage import build_stage
from demo.story import say_loading
from demo.strings import Texts
from latte_core import GenerationRequest

if TYPE_CHECKING:
    from demo.executors import Readiness

STATIC = Path(__file__).parent / "static"
STYLES = (STATIC / "page.css", STATIC / "stage.css")
MODES = ("video", "image", "joint")
MAX_STILLS = 8
# Gradio's own checks let NaN, fractions and booleans through and answer text in a number field with
# an error without words; GenerationRequest checks everything, so values are handed on as they come.
UNCHECKED: dict[str, Any] = {"preprocess": False}
QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,  # our own executor orders the jobs
}
DICE_JS = "() => String(crypto.getRandomValues(new Uint32Array(1))[0])"
BUSY_JS = "(...values) => { document.body.classList.add('ls-busy'); return values; }"


@dataclass(frozen=True)
class Widgets:
    """The components that events read and write."""

    model: gr.HTML
    about: gr.HTML
    prompt: gr.Textbox
    generate: gr.Button
    stop: gr.Button
    chips: list[gr.Button]
    stage: gr.HTML
    mode: gr.Radio
    num_images: gr.Slider
    seed: gr.Textbox
    dice: gr.Button
    steps: gr.Slider
    guidance: gr.Slider
    negative_prompt: gr.Textbox
    scheduler: gr.Dropdown

    def request_fields(self) -> dict[str, Any]:
        """The fields of a request that the page offers, by the request's names."""
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "mode": self.mode,
            "num_images": self.num_images,
            "seed": self.seed,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "scheduler": self.scheduler,
        }


@dataclass(frozen=True)
class Start:
    """What the fields hold before the model is loaded."""

    steps: int = 20
    guidance: float = 4.0
    examples: tuple[str, ...] = ()


def build(handlers: Handlers, texts: Texts, start: Start | None = None) -> gr.Blocks:
    """The whole page, wired."""
    start = start or Start()
    with gr.Blocks(
        title=texts("app.title"),
        analytics_enabled=False,
        delete_cache=(3600, 6 * 3600),
        fill_width=True,
    ) as page:
        widgets = _lay_out(texts, start)
        _wire(page, widgets, handlers, texts)
        _follow_model(page, widgets, handlers, texts, start)
        _publish(handlers, texts)
    return page


def _lay_out(texts: Texts, start: Start) -> Widgets:
    """Prompt and Generate first, then the stage, then the settings: the order on a phone."""
    with gr.Row(elem_id="top"):
        gr.HTML(brand(texts), elem_id="brand", apply_default_css=False)
        model = gr.HTML(
            model_line(texts("model.starting"), "loading"),
            elem_id="model",
            apply_default_css=False,
        )
    with gr.Row(elem_id="ask"):
        prompt = gr.Textbox(
            label=texts("prompt.label"),
            placeholder=texts("prompt.placeholder"),
            lines=2,
            max_lines=4,
            autofocus=True,
            elem_id="prompt",
        )
        with gr.Column(elem_id="go", min_width=150, scale=0):
            generate = gr.Button(texts("prompt.generate"), variant="primary", elem_id="generate")
            stop = gr.Button(texts("prompt.stop"), variant="stop", elem_id="stop")
            gr.HTML(hint(texts), elem_id="hint", apply_default_css=False)
    with gr.Row(elem_id="chips"):
        examples = _examples(texts, start.examples)
        chips = [gr.Button(text, size="sm", elem_classes="chip") for text in examples]
    with gr.Row(elem_id="work"):
        with gr.Column(scale=5, elem_id="stage-column"):
            stage = build_stage(texts)
        with gr.Column(scale=2, min_width=280, elem_id="settings"):
            settings = _settings(texts, start)
            about = gr.HTML("", elem_id="about", apply_default_css=False)
    return Widgets(
        model=model,
        about=about,
        prompt=prompt,
        generate=generate,
        stop=stop,
        chips=chips,
        stage=stage,
        **settings,
    )


def _settings(texts: Texts, start: Start) -> dict[str, Any]:
    """The fields beside the stage, by their names in `Widgets`."""
    mode = gr.Radio(
        [(texts(f"settings.mode.{mode}"), mode) for mode in MODES],
        value="video",
        label=texts("settings.mode"),
        elem_id="mode",
    )
    num_images = gr.Slider(
        1,
        MAX_STILLS,
        value=4,
        step=1,
        label=texts("settings.images"),
        info=texts("settings.images.info"),
        visible=False,
        elem_id="num-images",
    )
    with gr.Row(elem_id="seed-row"):
        seed = gr.Textbox(
            label=texts("settings.seed"),
            placeholder=texts("settings.seed.placeholder"),
            max_lines=1,
            elem_id="seed",
            min_width=120,
        )
        dice = gr.Button(texts("settings.dice"), elem_id="dice", min_width=44, scale=0)
    steps = gr.Slider(
        1,
        100,
        value=start.steps,
        step=1,
        label=texts("settings.steps"),
        info=texts("settings.steps.info"),
        elem_id="steps",
    )
    guidance = gr.Slider(
        1,
        15,
        value=start.guidance,
        step=0.1,
        label=texts("settings.guidance"),
        info=texts("settings.guidance.info"),
        elem_id="guidance",
    )
    with gr.Accordion(texts("settings.more"), open=False, elem_id="more"):
        negative = gr.Textbox(
            label=texts("settings.negative"),
            placeholder=texts("settings.negative.placeholder"),
            lines=2,
            elem_id="negative",
        )
        scheduler = gr.Dropdown(
            [(texts("settings.scheduler.default"), "")],
            value="",
            label=texts("settings.scheduler"),
            elem_id="scheduler",
        )
    return {
        "mode": mode,
        "num_images": num_images,
        "seed": seed,
        "dice": dice,
        "steps": steps,
        "guidance": guidance,
        "negative_prompt": negative,
        "scheduler": scheduler,
    }


def _wire(page: gr.Blocks, widgets: Widgets, handlers: Handlers, texts: Texts) -> None:
    """Which event does what."""
    fields = widgets.request_fields()

    def play(values: dict[Any, Any], page: gr.Request) -> Iterator[str]:
        asked = {name: values[field] for name, field in fields.items()}
        yield from handlers.generate(asked, page.session_hash or "")

    widgets.generate.click(
        play,
        set(fields.values()),
        widgets.stage,
        js=BUSY_JS,
        trigger_mode="multiple",
        **UNCHECKED,
        **QUIET,
    )
    widgets.stop.click(handlers.stop, **QUIET)
    page.unload(handlers.stop)
    for chip in widgets.chips:
        chip.click(None, chip, widgets.prompt, js="(text) => text", **QUIET)
    widgets.dice.click(None, None, widgets.seed, js=DICE_JS, **QUIET)
    widgets.stage.reuse(handlers.keep_seed, None, widgets.seed, **QUIET)
    widgets.mode.change(
        lambda mode: gr.update(visible=mode != "video"),
        widgets.mode,
        widgets.num_images,
        **QUIET,
    )


def _follow_model(
    page: gr.Blocks, widgets: Widgets, handlers: Handlers, texts: Texts, start: Start
) -> None:
    """Show every visitor how the model gets on, then what it can do."""

    async def watch() -> AsyncIterator[list[Any]]:
        async for readiness in handlers.watch_model():
            yield _show_model(readiness, texts, start)

    fields = [widgets.mode, widgets.steps, widgets.guidance, widgets.scheduler]
    page.load(watch, None, [widgets.model, widgets.about, *fields, *widgets.chips], **QUIET)


def _show_model(readiness: Readiness, texts: Texts, start: Start) -> list[Any]:
    """Updates of the model line, what is said about it, the fields and the chips."""
    info = readiness.info
    chips = len(texts.many("examples"))
    if info is None:
        text = say_loading(texts, readiness.loading)
        if readiness.failure:
            text = texts("model.failed", message=readiness.failure)
        line = model_line(text, "failed" if readiness.failure else "loading")
        return [line, *[gr.skip()] * (5 + chips)]
    own = texts("settings.scheduler.default")
    modes = [(texts(f"settings.mode.{mode}"), mode) for mode in MODES if mode in info.modes]
    ready = texts("model.ready", name=model_name(info), device=info.device)
    steps, guidance = info.defaults.num_inference_steps, info.defaults.guidance_scale
    examples = _examples(texts, info.card.get("examples", ()))
    return [
        model_line(ready, "ready"),
        about_model(info, texts),
        gr.update(choices=modes),
        # What the visitor has set meanwhile stays, where the start values were right.
        gr.skip() if steps == start.steps else gr.update(value=steps),
        gr.skip() if guidance == start.guidance else gr.update(value=guidance),
        gr.update(choices=[(own, ""), *((name, name) for name in info.schedulers)]),
        *(gr.update(value=text) for text in examples),
    ]


def _examples(texts: Texts, own: Sequence[str]) -> list[str]:
    """Always the same number: the model's own, then ours."""
    ours = texts.many("examples")
    return [*map(str, own), *(text for text in ours if text not in own)][: len(ours)]


def _publish(handlers: Handlers, texts: Texts) -> None:
    """The `/generate` endpoint for clients: takes what `GenerationRequest` takes, by name."""
    hidden: dict[str, Any] = {"visible": False}
    fields = dataclasses.fields(GenerationRequest)

    def generate(*values: Any) -> Iterator[ApiResult]:
        names = (field.name for field in fields)
        yield from handlers.generate_for_client(dict(zip(names, values, strict=True)))

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
        api_description=texts("api.generate"),
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
