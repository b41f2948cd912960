"""What the stage says while a job runs: events in, `StageState` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from demo.stage import Link, StageState, make_strip
from demo.strings import Texts
from latte_core import Cancelled, Decoding, Encoded, GenerationRequest, Loading, Step

# Shares of the progress bar: reading the prompt, denoising, decoding.
AFTER_ENCODING, AFTER_STEPS = 0.04, 0.92


@dataclass(frozen=True)
class Files:
    """What a finished job left: addresses for the stage, links, and the settings in words."""

    video: str
    stills: tuple[str, ...]
    links: tuple[Link, ...]
    facts: str


class Story:
    """Tells one job. Each method returns the state to show next."""

    def __init__(self, texts: Texts, request: GenerationRequest) -> None:
        self._texts = texts
        self._state = StageState(mode=request.mode, seed=request.seed)
        self._tellers: dict[type, Callable[[Any], StageState]] = {
            Encoded: self._encoded,
            Step: self._step,
            Decoding: self._decoding,
        }

    def tell(self, event: object) -> StageState | None:
        """The state after this event; None when nothing is to be shown."""
        teller = self._tellers.get(type(event))
        return teller(event) if teller else None

    def loading(self, loading: Loading) -> StageState:
        """The job waits for the model."""
        return self._show(
            state="loading",
            text=say_loading(self._texts, loading),
            detail=self._texts("model.waits"),
            progress=None,
        )

    def queued(self, place: int) -> StageState:
        """`place` jobs are before this one."""
        key = "run.queued.next" if place == 1 else "run.queued"
        return self._show(state="queued", text=self._texts(key, place=place), progress=None)

    def begun(self, fps: float) -> StageState:
        """It is this job's turn; its previews play at `fps`."""
        self._state = replace(self._state, fps=fps)
        return self._show(state="encoding", text=self._texts("run.encoding"), progress=None)

    def stopping(self) -> StageState:
        """The visitor pressed Stop; the step that runs is still to end."""
        return self._show(detail=self._texts("run.stopping"))

    def saving(self) -> StageState:
        """The frames are there; the files are being written."""
        return self._show(state="decoding", text=self._texts("run.saving"), progress=0.99)

    def finished(self, files: Files, seconds: float) -> StageState:
        """The files are there."""
        done = self._texts("run.finished", duration=self._texts.duration(seconds))
        return replace(
            self._show(state="finished", text=done, progress=1.0),
            video=files.video,
            stills=files.stills,
            links=files.links,
            facts=files.facts,
        )

    def stopped(self, cancelled: Cancelled) -> StageState:
        """The job was stopped; what was formed so far stays on the canvas."""
        if cancelled.step:
            text = self._texts("run.stopped", step=cancelled.step, total=cancelled.total)
        else:
            text = self._texts("run.stopped.early")
        return self._show(state="stopped", text=text)

    def failed(self, message: str) -> StageState:
        """Something went wrong; `message` is a sentence."""
        return failure(message, self._state.mode)

    def _encoded(self, event: Encoded) -> StageState:
        self._state = replace(self._state, note=self._unknown(event.unknown_words))
        return self._show(
            state="running",
            text=self._texts("run.noise", seed=self._state.seed),
            progress=AFTER_ENCODING,
        )

    def _step(self, event: Step) -> StageState:
        share = (AFTER_STEPS - AFTER_ENCODING) * event.index / max(1, event.total)
        text = self._texts("run.step", index=event.index, total=event.total)
        if event.index == 0:
            text = self._texts("run.noise", seed=self._state.seed)
        state = self._show(
            state="running",
            text=text,
            detail=self._eta(event.eta_s),
            progress=AFTER_ENCODING + share,
        )
        return replace(state, strip=make_strip(event.preview, event.stills))

    def _decoding(self, event: Decoding) -> StageState:
        share = (0.98 - AFTER_STEPS) * event.index / max(1, event.total)
        text = self._texts("run.decoding", index=event.index, total=event.total)
        return self._show(state="decoding", text=text, progress=AFTER_STEPS + share)

    def _show(self, detail: str = "", **changes: Any) -> StageState:
        """Change what is known; the progress bar never runs backwards."""
        progress, before = changes.get("progress"), self._state.progress
        if progress is not None and before is not None:
            changes["progress"] = max(progress, before)
        self._state = replace(self._state, detail=detail, **changes)
        return self._state

    def _eta(self, eta_s: float | None) -> str:
        if eta_s is None:
            return ""
        return self._texts("run.eta", duration=self._texts.duration(eta_s))

    def _unknown(self, words: Sequence[str]) -> str:
        if not words:
            return ""
        quoted = [self._texts("list.quote", word=word) for word in words]
        key = "run.unknown_word" if len(words) == 1 else "run.unknown_words"
        return self._texts(key, words=self._texts("list.join").join(quoted))


def failure(message: str, mode: str = "video") -> StageState:
    """The state that shows an error's sentence."""
    return StageState(state="failed", text=message, mode=mode)


def say_loading(texts: Texts, loading: Loading) -> str:
    """How far the model is, in words."""
    if loading.fraction is None:
        return texts("model.loading", message=loading.message)
    percent = round(100 * loading.fraction)
    return texts("model.loading_fraction", message=loading.message, percent=percent)
