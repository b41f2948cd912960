"""Which event of the page does what: running a film, and following the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.markup import about_model, budget_line, model_line, model_name
from demo.recipes import linked_fields
from demo.regions.advanced import scheduler_choices, tempo_choices
from demo.regions.ask import Ask, class_choices, pick_examples
from demo.regions.controls import Controls, mode_choices
from demo.regions.masthead import Masthead
from demo.regions.studio import QUIET, UNCHECKED, Start, Studio
from demo.sizes import longer_than_trained, size_choices
from demo.story import say_loading
from demo.strings import Texts
from demo.visitors import owner_of

if TYPE_CHECKING:
    from demo.executors import Readiness
    from latte_core import EngineInfo

DICE_JS = "() => String(crypto.getRandomValues(new Uint32Array(1))[0])"
BUSY_JS = "(...values) => { window.latteStudio?.begin(); return values; }"


@dataclass(frozen=True)
class Widgets:
    """The regions of the Studio tab."""

    masthead: Masthead
    ask: Ask
    controls: Controls
    stage: gr.HTML
    about: gr.HTML

    def request_fields(self) -> dict[str, Any]:
        """The fields of a request that the page offers, by the request's names.

        One, `size`, stands for height and width.
        """
        controls, advanced = self.controls, self.controls.advanced
        return {
            "prompt": self.ask.prompt,
            "class_label": self.ask.class_label,
            "negative_prompt": advanced.negative_prompt,
            "mode": controls.mode,
            "num_images": controls.num_images,
            "image_prompts": controls.image_prompts,
            "image_class_labels": controls.image_classes,
            "seed": controls.seed,
            "num_frames": controls.num_frames,
            "turbo": controls.turbo,
            "num_inference_steps": controls.steps,
            "guidance_scale": controls.guidance,
            "plan": controls.budget,
            "scheduler": advanced.scheduler,
            "size": advanced.size,  # height and width
            "tempo": advanced.tempo,
            "first_frame": advanced.picture,
        }


def wire_run(page: gr.Blocks, studio: Studio, widgets: Widgets) -> list[Any]:
    """Generate, Stop, examples, dice, and the closed tab; returns the events that run a film."""
    handlers, ask, controls = studio.handlers, widgets.ask, widgets.controls
    fields = widgets.request_fields()

    def play(values: dict[Any, Any], page: gr.Request) -> Iterator[str]:
        asked = {name: values[field] for name, field in fields.items()}
        yield from handlers.generate(asked, page.session_hash or "", owner_of(page))

    run: dict[str, Any] = {
        "fn": play,
        "inputs": set(fields.values()),
        "outputs": widgets.stage,
        "js": BUSY_JS,
        "trigger_mode": "multiple",
        **UNCHECKED,
        **QUIET,
    }
    ran = [ask.generate.click(**run), run_again(studio, widgets, run)]
    for chip in ask.chips:  # one click on an example starts a run
        ran.append(chip.click(None, chip, ask.prompt, js="(text) => text", **QUIET).then(**run))
    words = widgets.stage.reword(handlers.take_words, None, ask.prompt, **QUIET)
    ran.append(words.then(**run))
    ask.stop.click(handlers.stop, **QUIET)
    page.unload(handlers.stop)
    controls.dice.click(None, None, controls.seed, js=DICE_JS, **QUIET)
    follow_budget(studio, widgets)
    follow_length(studio, widgets)
    widgets.stage.reuse(handlers.keep_seed, None, controls.seed, **QUIET)
    widgets.stage.nudge(handlers.nudge, **QUIET)
    return ran


def run_again(studio: Studio, widgets: Widgets, run: dict[str, Any]) -> Any:
    """The buttons of a failure on the stage, which change one thing and run again."""
    fields, size = widgets.request_fields(), widgets.controls.advanced.size

    def again(values: dict[Any, Any], page: gr.Request, event: gr.EventData) -> Iterator[list[Any]]:
        asked = {name: values[field] for name, field in fields.items()}
        remedy = event._data if isinstance(event._data, dict) else {}
        chosen = remedy.get("size")
        shown = chosen if isinstance(chosen, str) and chosen else gr.skip()
        told = studio.handlers.run_again(asked, remedy, page.session_hash or "", owner_of(page))
        for state in told:
            yield [state, shown]

    return widgets.stage.remedy(**{**run, "fn": again, "outputs": [widgets.stage, size]})


def follow_budget(studio: Studio, widgets: Widgets) -> None:
    """Under the budget stands the step plan that it chooses with these steps and this sampler."""
    controls, texts = widgets.controls, studio.texts

    def say(budget: Any, steps: Any, scheduler: Any) -> str:
        name, share = studio.handlers.say_budget(budget, steps, scheduler)
        return budget_line(texts, name, share)

    fields: list[Any] = [controls.budget, controls.steps, controls.advanced.scheduler]
    gr.on(
        [field.change for field in fields],
        say,
        fields,
        controls.budget_said,
        trigger_mode="always_last",
        **UNCHECKED,
        **QUIET,
    )


def follow_length(studio: Studio, widgets: Widgets) -> None:
    """A clip longer than the model was trained on has a tempo, if there is a choice of them."""
    num_frames, tempo = widgets.controls.num_frames, widgets.controls.advanced.tempo

    def show(frames: Any) -> Any:
        info = studio.handlers.model()
        return gr.update(visible=info is not None and has_tempo(frames, info))

    num_frames.change(show, num_frames, tempo, trigger_mode="always_last", **UNCHECKED, **QUIET)


def has_tempo(frames: Any, info: EngineInfo) -> bool:
    """Whether a clip of so many frames can be made at more than one tempo."""
    return longer_than_trained(frames, info) and len(info.tempos) > 1


def follow_model(page: gr.Blocks, studio: Studio, widgets: Widgets) -> None:
    """Show every visitor how the model gets on, then what it can do."""

    async def watch(page: gr.Request) -> AsyncIterator[list[Any]]:
        query = {str(key): str(value) for key, value in dict(page.query_params).items()}
        linked = linked_fields(query)
        async for readiness in studio.handlers.watch_model():
            yield show_model(readiness, studio.texts, studio.start, linked)

    ask, controls = widgets.ask, widgets.controls
    more = controls.advanced
    fields: list[gr.components.Component] = [
        controls.mode,
        controls.steps,
        controls.guidance,
        more.scheduler,
    ]
    fields += [controls.budget, controls.num_frames, controls.turbo]
    fields += [more.picture, more.size, more.tempo]
    told = [ask.prompt, ask.class_label, ask.unprompted, more.negative_prompt]
    told += [controls.image_prompts, controls.image_classes]
    outputs = [widgets.masthead.model, widgets.about, *fields, *told, *ask.chips]
    page.load(watch, None, outputs, **QUIET)


def show_model(
    readiness: Readiness, texts: Texts, start: Start, linked: AbstractSet[str] = frozenset()
) -> list[Any]:
    """Updates of the model line, what is said about it, the fields and the chips.

    What a link has set (`linked`, names of a request's fields) stays.
    """
    info = readiness.info
    chips = len(texts.many("examples"))
    if info is None:
        text = say_loading(texts, readiness.loading)
        if readiness.failure:
            text = texts("model.failed", message=readiness.failure)
        line = model_line(text, "failed" if readiness.failure else "loading")
        return [line, *[gr.skip()] * (17 + chips)]
    ready = texts("model.ready", name=model_name(info), device=info.device)
    steps, reads_text = info.defaults.num_inference_steps, info.conditioning == "text"
    examples = pick_examples(texts, info.card)
    return [
        model_line(ready, "ready"),
        about_model(info, texts),
        gr.update(choices=mode_choices(texts, info.modes)),
        # What the visitor has set meanwhile stays, where the start values were right.
        _first("num_inference_steps", steps, start.steps, linked),
        _guidance(info, start, linked),
        gr.update(choices=scheduler_choices(texts, info.schedulers)),
        _budget(info, linked),
        _lengths(info, linked),
        gr.update(visible=info.turbo),
        *_shape(info, texts, linked),
        *_told(info, texts, linked, examples[0]),
        *(gr.update(value=text, visible=reads_text) for text in examples),
    ]


def _budget(info: EngineInfo, linked: AbstractSet[str]) -> Any:
    """The budget can be set; it begins with the work that the model's own step plan does."""
    if info.defaults.plan == "full" or "plan" in linked:
        return gr.update(interactive=True)
    return gr.update(interactive=True, value=round(100 * info.default_share))


def _lengths(info: EngineInfo, linked: AbstractSet[str]) -> Any:
    """The frames field, where there is a choice; its first value is the model's own length."""
    lengths = [count for count in info.clip_lengths if count > 1]
    if len(lengths) < 2:
        return gr.update(visible=False)
    own = info.defaults.num_frames
    value: dict[str, Any] = {} if "num_frames" in linked else {"value": own}
    return gr.update(minimum=lengths[0], maximum=lengths[-1], visible=True, **value)


def _shape(info: EngineInfo, texts: Texts, linked: AbstractSet[str]) -> list[Any]:
    """Start picture, size and tempo, each only where the model has it."""
    size = f"{info.defaults.width} × {info.defaults.height}"
    more = texts("settings.size.info", size=size)
    # A link may have set a longer clip before the model was there, so a longer one is its choice.
    tempo: dict[str, Any] = {} if "tempo" in linked else {"value": next(iter(info.tempos), None)}
    longer = "num_frames" in linked and len(info.tempos) > 1
    return [
        gr.skip() if max(info.clip_lengths, default=1) > 1 else gr.update(visible=False),
        gr.update(choices=size_choices(texts, info), info=more, visible=True),
        gr.update(choices=tempo_choices(texts, info.tempos), visible=longer, **tempo),
    ]


def _first(name: str, value: Any, shown: Any, linked: AbstractSet[str]) -> Any:
    """A field's first value, unless it is there already or a link has set another."""
    return gr.skip() if value == shown or name in linked else gr.update(value=value)


def _guidance(info: EngineInfo, start: Start, linked: AbstractSet[str]) -> Any:
    """The guidance field; an unconditional model has nothing to be guided by."""
    guidance = info.defaults.guidance_scale
    if info.conditioning == "none":
        return gr.update(visible=False)
    return _first("guidance_scale", guidance, start.guidance, linked)


def _told(info: EngineInfo, texts: Texts, linked: AbstractSet[str], example: str) -> list[Any]:
    """Prompt, class, the line in their place, negative prompt, the stills' own of both."""
    if info.conditioning == "text":
        return [gr.update(placeholder=example), *[gr.skip()] * 5]
    by_class = info.conditioning == "class"
    first: dict[str, Any] = {} if "class_label" in linked else {"value": 0}
    return [
        gr.update(visible=False),
        gr.update(choices=class_choices(texts, info.classes), visible=by_class, **first),
        gr.update(visible=not by_class),
        gr.update(visible=False),
        gr.update(visible=False),
        gr.update(visible=by_class),
    ]
