"""What happens under the stage: runs come into the history, and settings come back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from demo.history import Entry
from demo.recipes import copies_of, film_of, from_query, request_of
from demo.regions.shelf import Shelf
from demo.regions.studio import QUIET, Studio
from demo.shelf import cards_of, copies_value, field_values, on_stage, runs_of
from demo.story import failure
from demo.visitors import owner_of
from demo.wiring import Widgets
from latte_core import GenerationRequest, LatteError

GENERATE_JS = "() => document.getElementById('generate').click()"
TO_STAGE_JS = "() => document.getElementById('stage').scrollIntoView({block: 'nearest'})"


class Keeper:
    """The events of the history and of the recipe line, in one language."""

    def __init__(self, studio: Studio, names: list[str]) -> None:
        self._handlers = studio.handlers
        self._texts = studio.texts
        self._names = names  # of the request's fields that the page offers

    def show(self, page: gr.Request) -> tuple[str, str]:
        """The history, and the films to compare."""
        return self._kept(page)[1:]

    def finish(self, page: gr.Request) -> tuple[str, str, str]:
        """The recipe of the newest run, the history, and the films to compare."""
        return self._kept(page)

    def _kept(self, page: gr.Request) -> tuple[str, str, str]:
        entries = self._handlers.history.entries(owner_of(page))
        newest = entries[0] if entries else None
        return (
            copies_value(newest),
            cards_of(entries, self._texts),
            runs_of(entries, self._texts),
        )

    def open_link(self, page: gr.Request) -> list[Any]:
        """The film or the settings in the page's address, and what is to be said about them.

        The stage comes first, then the fields, then the recipe line.
        """
        query = {str(key): str(value) for key, value in dict(page.query_params).items()}
        if key := film_of(query):
            return self._open_film(key, page)
        return [gr.skip(), *self._open_settings(query)]

    def _open_film(self, key: str, page: gr.Request) -> list[Any]:
        """A film that was shared, on the stage, and its settings in the fields."""
        entry = self._handlers.history.get(key, owner_of(page))
        if entry is None:
            return [gr.skip(), *self._nothing(self._texts("files.gone"))]
        *shown, line = self._show(entry)
        if isinstance(line, str):
            known = {**json.loads(line), "said": self._texts("recipe.opened")}
            line = json.dumps(known, ensure_ascii=False)
        return [*shown, line]

    def _open_settings(self, query: dict[str, str]) -> list[Any]:
        try:
            request = from_query(query)
        except LatteError as error:
            return self._nothing(str(error))
        if request is None:
            return self._nothing()
        said = self._texts("recipe.linked")
        return [*self._fill(dataclasses.asdict(request)), _say(said)]

    def load(self, event: gr.EventData, page: gr.Request) -> list[Any]:
        """Put a run on the stage and its settings into the fields."""
        return self._show(self._entry(event, page))

    def _show(self, entry: Entry | None) -> list[Any]:
        try:
            if entry is None:
                raise LatteError(self._texts("files.gone"))
            state = on_stage(entry, self._texts).to_json()
        except LatteError as error:
            return [failure(str(error)).to_json(), *self._nothing()]
        return [state, *self._fill(entry.recipe), copies_value(entry)]

    def vary(self, event: gr.EventData, page: gr.Request) -> list[Any]:
        """The settings of a run with the seed left open."""
        entry = self._entry(event, page)
        if entry is None:
            return self._nothing(self._texts("files.gone"))
        return [*self._fill({**entry.recipe, "seed": None}), gr.skip()]

    def share(self, event: gr.EventData, page: gr.Request) -> Any:
        """Let whoever has the link see a run; a sentence if that cannot be."""
        try:
            if self._handlers.history.share(sent(event, "key"), owner_of(page)):
                return gr.skip()
            raise LatteError(self._texts("files.gone"))
        except LatteError as error:
            return _say(str(error), failed=True)

    def remove(self, event: gr.EventData, page: gr.Request) -> tuple[str, str]:
        """Delete a run; the history and the films to compare without it."""
        self._handlers.history.delete(sent(event, "key"), owner_of(page))
        return self.show(page)

    def restore(self, event: gr.EventData) -> list[Any]:
        """The settings of a dropped file, and what is to be said about them."""
        try:
            recipe = _parse(sent(event, "recipe"))
            request = request_of(recipe)
        except LatteError as error:
            return self._nothing(str(error))
        said = self._restored(recipe, request)
        told = _say(said, copies=copies_of(recipe))
        return [*self._fill(dataclasses.asdict(request)), told]

    def _restored(self, recipe: dict[str, Any], request: GenerationRequest) -> str:
        """What came back, and what will be different here."""
        said = [self._texts("recipe.restored", seed=request.seed)]
        info = self._handlers.model()
        if info is None:
            return said[0]
        if recipe.get("model_hash", info.model_hash) == info.model_hash:
            return said[0]
        other = str(recipe.get("model", "?"))[:80]
        said.append(self._texts("recipe.other_model", model=other))
        size = (request.num_frames, request.height, request.width)
        own = (info.defaults.num_frames, info.defaults.height, info.defaults.width)
        if request.num_frames in info.clip_lengths:  # the page can ask for it
            own = (request.num_frames, *own[1:])
        if any(value not in (None, mine) for value, mine in zip(size, own, strict=True)):
            said.append(
                self._texts("recipe.other_size", frames=size[0], width=size[2], height=size[1])
            )
        return " ".join(said)

    def _entry(self, event: gr.EventData, page: gr.Request) -> Entry | None:
        return self._handlers.history.get(sent(event, "key"), owner_of(page))

    def _fill(self, recipe: dict[str, Any]) -> list[Any]:
        values = field_values(recipe, self._names, self._handlers.model())
        return [gr.skip() if value is None else value for value in values.values()]

    def _nothing(self, said: str = "") -> list[Any]:
        """No change of the fields, and a sentence about why."""
        line = _say(said, failed=True) if said else gr.skip()
        return [*[gr.skip()] * len(self._names), line]


def wire_shelf(
    page: gr.Blocks, studio: Studio, widgets: Widgets, shelf: Shelf, ran: list[Any]
) -> None:
    """Keep the history and the recipe line up to date; `ran` are the events that run a film."""
    fields = widgets.request_fields()
    keeper = Keeper(studio, list(fields))
    boxes, shown = list(fields.values()), [shelf.history, shelf.films]
    for event in ran:
        event.then(keeper.finish, None, [shelf.recipe, *shown], **QUIET)
    page.load(keeper.show, None, shown, **QUIET).then(
        keeper.open_link, None, [widgets.stage, *boxes, shelf.recipe], **QUIET
    )
    _on(shelf.history, "recall")(
        keeper.load, None, [widgets.stage, *boxes, shelf.recipe], **QUIET
    ).then(None, None, None, js=TO_STAGE_JS, **QUIET)
    _on(shelf.history, "vary")(keeper.vary, None, [*boxes, shelf.recipe], **QUIET).then(
        None, None, None, js=GENERATE_JS, **QUIET
    )
    _on(shelf.history, "remove")(keeper.remove, None, [shelf.history, shelf.films], **QUIET)
    _on(shelf.recipe, "share")(keeper.share, None, shelf.recipe, **QUIET)
    _on(shelf.recipe, "dropped")(keeper.restore, None, [*boxes, shelf.recipe], **QUIET)


def _on(component: gr.HTML, name: str) -> Callable[..., Any]:
    """An event that the component's script raises."""
    listener: Callable[..., Any] = getattr(component, name)
    return listener


def sent(event: gr.EventData, name: str) -> Any:
    """What a component's script sent along under this name; None if it sent nothing."""
    data = event._data
    return data.get(name) if isinstance(data, dict) else None


def _parse(text: Any) -> dict[str, Any]:
    """The JSON of a recipe. Raises LatteError."""
    try:
        recipe = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict):
        raise LatteError("The file's recipe cannot be read: it is damaged or foreign.")
    return recipe


def _say(said: str, failed: bool = False, **more: Any) -> str:
    return json.dumps({"said": said, "failed": failed, **more}, ensure_ascii=False)
