"""What every region is built from, and how the page's events are set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo.handlers import Handlers
    from demo.strings import Texts

# Gradio's own checks let NaN, fractions and booleans through and answer text in a number field with
# an error without words; GenerationRequest checks everything, so values are handed on as they come.
UNCHECKED: dict[str, Any] = {"preprocess": False}
QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,  # our own executor orders the jobs
}


@dataclass(frozen=True)
class Start:
    """What the fields hold before the model is loaded."""

    steps: int = 20
    guidance: float = 4.0
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Studio:
    """One page in one language: the handlers of its events, its words, its first values."""

    handlers: Handlers
    language: str
    start: Start

    @property
    def texts(self) -> Texts:
        """The words."""
        return self.handlers.texts
