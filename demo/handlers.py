"""What the page's events do: widget values to a request, engine events to widget updates.

A handler holds no torch state and blocks for a quarter of a second at most, so that a closed tab
or a pressed Stop is noticed at once. Mistakes and failures become sentences here.
"""

from __future__ import annotations

import asyncio
import html
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import gradio as gr

from demo.executors import Executor, Readiness, Run
from demo.history import Entry, History
from demo.outputs import Outputs, Saved
from demo.shelf import files_of
from demo.shortage import after, foresee
from demo.sizes import longer_than_trained, parse_size
from demo.stage import StageState
from demo.story import Files, Story, failure
from demo.strings import Texts
from latte_core import (
    Cancelled,
    Finished,
    GenerationRequest,
    LatteError,
    MemoryPlanError,
    RequestError,
    load_picture,
)

if TYPE_CHECKING:
    from latte_core import EngineInfo, Generation

log = logging.getLogger(__name__)

POLL_S = 0.25
ETA_STEP_S = 5  # a waiting visitor is not told every second
MAX_SEED = 2**32 - 1
ALL = 100  # percent of the work
NO_FILES = Files("", (), (), "")  # for clients, which get the files themselves
ApiResult = tuple[str | None, list[str], dict[str, Any]]
# How a finished run is kept, and a state with what was kept.
Save: TypeAlias = "Callable[[Generation], Saved | Entry]"
Told: TypeAlias = "tuple[StageState, tuple[Saved | Entry, Generation] | None]"


@dataclass(frozen=True)
class Line:
    """A place in the queue; the job that runs needs `eta_s` more, if that is known."""

    place: int
    eta_s: float | None


class Handlers:
    """The events of one page server."""

    def __init__(
        self,
        executor: Executor,
        outputs: Outputs,
        texts: Texts,
        history: History | None = None,
    ) -> None:
        self.executor = executor
        self.outputs = outputs
        self.texts = texts
        self.history = history or History(outputs.root / "history")

    def generate(
        self, asked: dict[str, Any], owner: str, visitor: str = "", anyway: bool = False
    ) -> Iterator[str]:
        """The Generate button of the page `owner`: the stage's values, from first to last.

        `asked` maps fields of `GenerationRequest` to what stands in the page's fields. The
        finished run goes into the history of `visitor`. A run that will want more memory than is
        free is not begun but explained, unless it is wanted `anyway`.
        """
        try:
            request = self._seeded(self.asked_for(asked))
            if not anyway and (short := foresee(request, self.model(), self.texts)):
                yield Story(self.texts, request).failed(*short).to_json()
                return
            run = self._submit(request, owner)
        except LatteError as error:
            yield failure(self._say(error)).to_json()
            return

        def keep(generation: Generation) -> Entry:
            return self.history.add(generation, run.request.mode, visitor)

        for state, _ in self._follow(run, keep):
            yield state.to_json()

    def run_again(
        self, asked: dict[str, Any], remedy: dict[str, Any], owner: str, visitor: str = ""
    ) -> Iterator[str]:
        """A button of a failure: the same run with its seed, in less memory or smaller.

        `remedy` is what the page's script sends: a `Remedy`'s fields and the seed.
        """
        info, plan = self.model(), remedy.get("plan")
        asked = {**asked, "seed": remedy.get("seed")}
        if isinstance(remedy.get("size"), str) and remedy["size"]:
            asked["size"] = remedy["size"]
        try:
            if info and info.memory is not None and isinstance(plan, str) and plan:
                yield Story(self.texts, GenerationRequest()).placing(plan).to_json()
                for _ in info.memory.place(plan).events():
                    pass
        except LatteError as error:
            yield failure(self._say(error)).to_json()
            return
        yield from self.generate(asked, owner, visitor, anyway=remedy.get("anyway") is True)

    def generate_for_client(self, asked: dict[str, Any]) -> Iterator[ApiResult]:
        """The `/generate` endpoint: progress first, then the clip, the stills and the recipe."""
        try:
            run = self._submit(GenerationRequest(**asked))
        except LatteError as error:
            raise _api_error(str(error)) from error

        def save(generation: Generation) -> Saved:
            return self.outputs.save(generation, run.request.mode)

        for state, done in self._follow(run, save):
            if state.state in ("failed", "stopped"):
                raise _api_error(state.text)
            if done is None:
                progress = {"state": state.state, "text": state.text, "progress": state.progress}
                yield None, [], progress
            else:
                saved, generation = done
                clip = str(saved.clip) if saved.clip else None
                yield clip, [str(path) for path in saved.stills], generation.recipe

    def asked_for(self, asked: dict[str, Any]) -> GenerationRequest:
        """The request that stands in the page's fields; the budget there chooses the step plan.

        Raises LatteError.
        """
        info = self.model()
        values = from_page(asked, info)
        budget = values.pop("plan")
        request = GenerationRequest(**values)
        if isinstance(budget, bool) or not isinstance(budget, int | float):
            raise RequestError(
                "plan", f"budget must be a number from 0 to 100, not {budget!r:.40}."
            )
        if info is None:
            return request
        if budget == ALL:
            own = info.defaults.plan != "full" and not request.turbo
            return replace(request, plan="full") if own else request
        steps = request.num_inference_steps
        name = info.nearest_plan(budget / ALL, request.scheduler, steps)
        if name == info.defaults.plan != "full":
            return request  # the engine follows the model's own where it was found
        return replace(request, plan=name)

    def say_budget(self, budget: Any, steps: Any, scheduler: Any) -> tuple[str, float]:
        """The plan that a budget in percent chooses, and its share of the work; "" for all."""
        info = self.model()
        try:
            request = GenerationRequest(num_inference_steps=steps, scheduler=scheduler or None)
            if info is None or budget == ALL:
                return "", 1.0
            name = info.nearest_plan(budget / ALL, request.scheduler, request.num_inference_steps)
            shares = info.plan_shares(request.scheduler, request.num_inference_steps)
        except (LatteError, TypeError):  # said when a film is asked for
            return "", 1.0
        return name, shares[name]

    def stop(self, page: gr.Request) -> None:
        """The Stop button, and the closed tab: cancel what this page started."""
        if page.session_hash:
            self.executor.cancel(page.session_hash)

    def keep_seed(self, event: gr.EventData) -> Any:
        """Put the seed of the clip on the stage into the seed field."""
        seed = getattr(event, "seed", None)
        return str(seed) if type(seed) is int and 0 <= seed <= MAX_SEED else gr.skip()

    def take_words(self, event: gr.EventData) -> Any:
        """Put the prompt in words that the model knows, as the stage has it, into its field."""
        prompt = getattr(event, "prompt", None)
        return prompt if isinstance(prompt, str) and prompt else gr.skip()

    def nudge(self) -> None:
        """Nothing, by an event: the page opens its stream of answers anew (stage.js says why)."""

    def model(self) -> EngineInfo | None:
        """What is loaded; None while nothing is."""
        return self.executor.readiness().info

    async def watch_model(self) -> AsyncIterator[Readiness]:
        """How the model is getting on, until it is loaded or has failed."""
        shown: Readiness | None = None
        while True:
            readiness = self.executor.readiness()
            if readiness is not shown:
                yield readiness
                shown = readiness
            if readiness.info or readiness.failure:
                return
            await asyncio.sleep(POLL_S)

    def _submit(self, request: GenerationRequest, owner: str = "") -> Run:
        """Draw the seed now, so that the page can show it also when the job is stopped."""
        if info := self.executor.readiness().info:
            request.check_conditioning(info.conditioning, info.classes)
        return self.executor.submit(self._seeded(request), owner, self.texts)

    def _seeded(self, request: GenerationRequest) -> GenerationRequest:
        if request.seed is not None:
            return request
        return replace(request, seed=secrets.randbelow(MAX_SEED + 1))

    def _follow(self, run: Run, save: Save) -> Iterator[Told]:
        """The states of a job; the last one comes with what `save` made, if it went well."""
        story = Story(self.texts, run.request)
        try:
            yield from self._states(run, story, save)
        except Cancelled as cancelled:
            if not run.replaced:
                yield story.stopped(cancelled), None
        except MemoryPlanError as error:
            remedies = after(run.request, self.model(), story.stepped, self.texts)
            yield story.failed(str(error), remedies), None
        except LatteError as error:
            yield story.failed(str(error)), None
        finally:
            run.cancel()

    def _states(self, run: Run, story: Story, save: Save) -> Iterator[Told]:
        """As `_follow`, without what can go wrong."""
        started = time.monotonic()
        for event in self._events(run, story):
            if isinstance(event, StageState):
                yield event, None
            elif isinstance(event, Finished):
                yield story.saving(event.generation.memory_gib), None
                saved = save(event.generation)
                files = files_of(saved, self.texts) if isinstance(saved, Entry) else NO_FILES
                done = story.finished(files, time.monotonic() - started)
                yield done, (saved, event.generation)
            elif (told := story.tell(event)) is not None:
                yield told, None

    def _events(self, run: Run, story: Story) -> Iterator[Any]:
        """The engine's events, and between them what the page says while nothing happens."""
        shown: Readiness | Line | None = None
        begun = stopping = False
        event: Any = None
        while not isinstance(event, Finished):
            event = run.poll(POLL_S if shown is not None or begun else 0.0)
            if run.cancelled.is_set() and not begun:
                raise Cancelled  # the engine notices when it is this job's turn
            waits_for = self._waits_for(run)
            if not begun and (event is not None or waits_for is None):
                begun = True
                info = self.model()
                yield story.begun(info.defaults.fps if info else 8.0)
            elif not begun and waits_for != shown:
                shown = waits_for
                if isinstance(waits_for, Readiness):
                    yield story.loading(waits_for.loading)
                elif waits_for is not None:
                    yield story.queued(waits_for.place, waits_for.eta_s)
            if event is not None:
                yield event
            elif begun and run.cancelled.is_set() and not stopping:
                stopping = True
                yield story.stopping()

    def _waits_for(self, run: Run) -> Readiness | Line | None:
        """The model, a number of other jobs, or nothing."""
        readiness = self.executor.readiness()
        if not readiness.info:
            return readiness
        place = self.executor.place(run)
        if not place:
            return None
        eta_s = self.executor.eta_s(run)
        return Line(place, eta_s and math.ceil(eta_s / ETA_STEP_S) * ETA_STEP_S)

    def _say(self, error: LatteError) -> str:
        """The sentence of a mistake; the commonest one in the visitor's language."""
        empty = isinstance(error, RequestError) and "prompt is empty" in str(error)
        return self.texts("error.empty") if empty else str(error)


def _api_error(message: str) -> gr.Error:
    """The message is shown as markup by Gradio's own pages, so it is escaped."""
    return gr.Error(html.escape(message, quote=False), print_exception=False)


def from_page(asked: dict[str, Any], info: EngineInfo | None) -> dict[str, Any]:
    """The values of a request's fields from what stands in the page's.

    Text fields hold text: lines broken for the eye, a number typed, nothing at all. Fields that
    this kind of model has no use for are hidden on the page; what they hold is dropped. A model
    that is not known yet is taken for one that reads prompts.
    Raises RequestError for a class that the model does not have.
    """
    values, conditioning = dict(asked), info.conditioning if info else "text"
    if conditioning != "text":
        values["prompt"] = values["negative_prompt"] = ""
    if conditioning != "class":
        values["class_label"] = None
    if conditioning == "none":
        values["guidance_scale"] = None
    for name in ("prompt", "negative_prompt"):
        if isinstance(values[name], str):
            values[name] = " ".join(values[name].splitlines())
    values["negative_prompt"] = values["negative_prompt"] or ""
    values["seed"] = _typed_number(values["seed"])
    values["scheduler"] = values["scheduler"] or None
    if values["turbo"]:  # has its own steps, and guidance built in; the fields are hidden
        values |= {"num_inference_steps": None, "guidance_scale": None, "negative_prompt": ""}
        values["plan"] = ALL
    if not info or len([count for count in info.clip_lengths if count > 1]) < 2:  # hidden
        values["num_frames"] = None
    values |= _shape_of(values, info)
    if values["mode"] == "video":
        values["num_images"] = 0
    count = values["num_images"] if isinstance(values["num_images"], int) else 0
    prompts = _lines(values["image_prompts"], count if conditioning == "text" else 0)
    values["image_prompts"] = prompts
    classes = _lines(values["image_class_labels"], count if conditioning == "class" else 0)
    values["image_class_labels"] = tuple(
        info.class_index(name) if info and name else values["class_label"] or 0 for name in classes
    )
    return values


def _shape_of(values: dict[str, Any], info: EngineInfo | None) -> dict[str, Any]:
    """Size, tempo and start picture; takes `size` out of `values`.

    A tempo is for a clip longer than trained, a start picture for a clip. The page holds the
    picture whole: here it is cut to the clip, and what was cut before stays as it is.
    Raises RequestError for a size that is not spelled as one, or a damaged picture.
    """
    height, width = parse_size(values.pop("size", ""))
    still, frames = values["mode"] == "image", values["num_frames"]
    longer = info is not None and longer_than_trained(frames, info)
    picture = None if still else values.get("first_frame") or None
    if info and isinstance(picture, str) and picture.startswith("data:"):  # never a path
        defaults = info.defaults
        GenerationRequest(first_frame=picture, height=height, width=width)
        picture = load_picture(picture, height or defaults.height, width or defaults.width)
    return {
        "height": height,
        "width": width,
        "tempo": values.get("tempo") or None if longer and not still else None,
        "first_frame": picture,
    }


def _lines(text: Any, stills: int) -> tuple[str, ...]:
    """A line for each still, those that are missing empty; none if all are, or without stills."""
    lines = [line.strip() for line in text.rstrip().splitlines()] if isinstance(text, str) else []
    if not stills or not any(lines):
        return ()
    return (*lines, *[""] * (stills - len(lines)))


def _typed_number(text: Any) -> Any:
    """None for an empty field, a whole number, or the text itself, which the request refuses."""
    if not isinstance(text, str):
        return text
    text = text.strip()
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 40:
        return int(text)
    return text or None
