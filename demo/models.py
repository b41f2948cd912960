"""The models that a sheet may compare: the page's own, its turbo, and those that --also names.

Of the further models one is kept at a time; the next one takes its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_core import checkpoints

if TYPE_CHECKING:
    from demo.settings import Settings
    from latte_core import EngineInfo

TURBO = "-turbo"  # behind a model's name: its few-step transformer


@dataclass(frozen=True)
class Model:
    """One value of the axis "model": where it comes from ("" is this page) and how it runs."""

    source: str = ""
    turbo: bool = False


def known_models(own: EngineInfo, sources: Sequence[str]) -> dict[str, Model]:
    """Every model by the name that a sheet calls it; of two alike the later has its whole path."""
    models = _with_turbo(Path(own.model).name, Model(), own.turbo)
    for source in sources:
        name = Path(source).name
        has_turbo = (Path(source) / checkpoints.TURBO_FOLDER).is_dir()
        models |= _with_turbo(source if name in models else name, Model(source), has_turbo)
    return models


def _with_turbo(name: str, model: Model, has_turbo: bool) -> dict[str, Model]:
    return {name: model} | ({name + TURBO: Model(model.source, True)} if has_turbo else {})


def name_in(recipe: Mapping[str, Any]) -> str:
    """What a table calls the model of a recipe."""
    return str(recipe.get("model", "")) + (TURBO if recipe.get("turbo") else "")


class Guests:
    """Loads the further models when they are asked for. `load` gives an engine for a source."""

    def __init__(self, load: Callable[[str], Any], sources: Sequence[str] = ()) -> None:
        self.sources = tuple(sources)
        self._load = load
        self._lock = threading.Lock()
        self._source = ""
        self._engine: Any = None

    def engine(self, source: str) -> Any:
        """The engine of a source, after the one before it was closed. Raises LatteError."""
        with self._lock:
            if source != self._source:
                if self._engine is not None:
                    self._engine.close()
                self._source, self._engine = "", None
                self._engine = self._load(source)
                self._source = source
            return self._engine


def guest_loader(settings: Settings) -> Callable[[str], Any]:
    """Loads a further model as the settings ask, by the memory plan that fits what is left."""

    def load(source: str) -> Any:
        from latte_core import Engine

        return Engine.load(source, device=settings.device, precision=settings.precision)

    return load
