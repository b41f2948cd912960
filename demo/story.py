"""What the stage says while a job runs: events in, `StageState` out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from demo.stage import Link, Part, Remedy, StageState, make_strip
from demo.strings import Texts
from latte_core import Cancelled, Decoding, Encoded, GenerationRequest, Loading, Step, SteppedDown

# Shares of the progress bar: reading the prompt, denoising, decoding.
AFTER_ENCODING, AFTER_STEPS = 0.04, 0.92


@dataclass(frozen=True)
class Files:
    """What a finished job left: addresses for the stage, links, and the settings in words."""

    video: str
    stills: tuple[str, ...]
    links: tuple[Link, ...]
    facts: str


class Parts:
    """The three parts of a run, and how long each has taken."""

    NAMES = ("prompt", "denoise", "decode")

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._seconds = dict.fromkeys(self.NAMES, 0.0)
        self._at = -1
        self._since = time.monotonic()

    def reach(self, name: str | None, before_s: float | None = None) -> None:
        """`name` begins, None being the end. The part before it took `before_s`, if measured."""
        at = self.NAMES.index(name) if name else len(self.NAMES)
        if at <= self._at:
            return
        if self._at >= 0:
            last, now = self.NAMES[self._at], time.monotonic()
            self._seconds[last] = now - self._since if before_s is None else before_s
        self._at, self._since = at, time.monotonic()

    def note(self, name: str, seconds: float) -> None:
        """`name` went on for `seconds` more."""
        self._seconds[name] += seconds

    def shown(self) -> tuple[Part, ...]:
        """For the stage; nothing before the run begins."""
        if self._at < 0:
            return ()
        return tuple(self._part(index, name) for index, name in enumerate(self.NAMES))

    def _part(self, index: int, name: str) -> Part:
        label, seconds = self._texts(f"part.{name}"), self._seconds[name]
        if index > self._at:
            return Part(label)
        time_text = self._texts("time.short", seconds=f"{seconds:.1f}") if seconds else ""
        return Part(label, "now" if index == self._at else "done", time_text)


class Story:
    """Tells one job. Each method returns the state to show next."""

    def __init__(self, texts: Texts, request: GenerationRequest) -> None:
        self._texts = texts
        self._parts = Parts(texts)
        self._memory_gib: Mapping[str, float] = {}
        self._prompt = request.prompt
        self._state = StageState(mode=request.mode, seed=request.seed)
        self.stepped: list[str] = []  # memory plans that the run has come down to
        self._tellers: dict[type, Callable[[Any], StageState]] = {
            Encoded: self._encoded,
            Step: self._step,
            Decoding: self._decoding,
            SteppedDown: self._stepped_down,
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
            progress=loading.fraction if loading.bytes_total else None,
        )

    def queued(self, place: int, wait_s: float | None = None) -> StageState:
        """`place` jobs are before this one; the one that runs needs `wait_s` more, if known."""
        key = "run.queued.next" if place == 1 else "run.queued"
        reason = self._texts("run.queued.why")
        if wait_s is not None:
            ahead = self._texts.duration(wait_s)
            reason += " " + self._texts("run.queued.wait", duration=ahead)
        text = self._texts(key, place=place)
        return self._show(reason, state="queued", text=text, progress=None)

    def begun(self, fps: float) -> StageState:
        """It is this job's turn; its previews play at `fps`."""
        self._state = replace(self._state, fps=fps)
        self._parts.reach("prompt")
        return self._show(state="encoding", text=self._texts("run.encoding"), progress=None)

    def stopping(self) -> StageState:
        """The visitor pressed Stop; the step that runs is still to end."""
        return self._show(detail=self._texts("run.stopping"))

    def saving(self, memory_gib: Mapping[str, float] | None = None) -> StageState:
        """The frames are there; the files are being written. `memory_gib` is what they took."""
        self._parts.reach(None)
        self._memory_gib = memory_gib or {}
        return self._show(state="decoding", text=self._texts("run.saving"), progress=0.99)

    def finished(self, files: Files, seconds: float) -> StageState:
        """The files are there."""
        done = self._texts("run.finished", duration=self._texts.duration(seconds))
        amounts = {name: f"{gib:.2f}" for name, gib in self._memory_gib.items()}
        memory = self._texts("run.facts.memory", **amounts) if amounts else ""
        return replace(
            self._show(memory, state="finished", text=done, progress=1.0),
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

    def placing(self, plan: str) -> StageState:
        """The model is put where another memory plan wants it."""
        return self._show(state="loading", text=self._texts("memory.placing", plan=plan))

    def failed(self, message: str, remedies: tuple[Remedy, ...] = ()) -> StageState:
        """Something went wrong; `message` is a sentence."""
        failed = failure(message, self._state.mode)
        return replace(failed, seed=self._state.seed if remedies else None, remedies=remedies)

    def _encoded(self, event: Encoded) -> StageState:
        notes = [self._unknown(event)]
        if event.missing_plan and event.plan == "full":
            notes.append(self._texts("run.plan.missing", plan=event.missing_plan))
        if self.stepped:
            notes.append(self._texts("memory.stepped", plan=self.stepped[-1]))
        note, reworded = " ".join(filter(None, notes)), event.reworded(self._prompt)
        self._state = replace(self._state, note=note, reworded=reworded)
        self._parts.reach("denoise", event.seconds)
        return self._show(
            state="running",
            text=self._texts("run.noise", seed=self._state.seed),
            progress=AFTER_ENCODING,
        )

    def _stepped_down(self, event: SteppedDown) -> StageState:
        """Memory ran out; the run begins again, and what it goes on with stays in view."""
        self.stepped.append(event.plan)
        self._parts = Parts(self._texts)
        self._parts.reach("prompt")
        said = self._texts("memory.stepped", plan=event.plan)
        self._state = replace(self._state, note=said, progress=None)
        return self._show(event.sentence, state="encoding", text=said)

    def _step(self, event: Step) -> StageState:
        share = (AFTER_STEPS - AFTER_ENCODING) * event.index / max(1, event.total)
        text = self._texts("run.step", index=event.index, total=event.total)
        self._parts.note("denoise", event.seconds if event.index else 0.0)
        if event.index:
            state = self._show(
                state="running",
                text=text,
                detail=self._eta(event.eta_s),
                progress=AFTER_ENCODING + share,
            )
        else:  # the noise, while the prompt is still being read
            state = self._state
        strip = make_strip(event.preview, event.stills)
        return replace(state, strip=strip, step=event.index, total=event.total)

    def _decoding(self, event: Decoding) -> StageState:
        self._parts.reach("decode")
        share = (0.98 - AFTER_STEPS) * event.index / max(1, event.total)
        text = self._texts("run.decoding", index=event.index, total=event.total)
        return self._show(state="decoding", text=text, progress=AFTER_STEPS + share)

    def _show(self, detail: str = "", **changes: Any) -> StageState:
        """Change what is known; the progress bar never runs backwards."""
        progress, before = changes.get("progress"), self._state.progress
        if progress is not None and before is not None:
            changes["progress"] = max(progress, before)
        parts = self._parts.shown()
        self._state = replace(self._state, detail=detail, parts=parts, **changes)
        return self._state

    def _eta(self, eta_s: float | None) -> str:
        if eta_s is None:
            return ""
        return self._texts("run.eta", duration=self._texts.duration(eta_s))

    def _unknown(self, event: Encoded) -> str:
        """What is said of words that the model lacks, with the nearest that it has, if known."""
        words = event.unknown_words
        if not words:
            return ""
        nearest = event.suggestions
        quoted = [self._texts("list.quote", word=word) for word in words]
        key = "run.unknown_word" if len(words) == 1 else "run.unknown_words"
        note = self._texts(key, words=self._texts("list.join").join(quoted))
        pairs = [(word, nearest[word]) for word in words if nearest.get(word)]
        if len(words) == 1 and pairs:
            return note + " " + self._texts("run.nearest", word=pairs[0][1])
        if pairs:
            said = (self._texts("run.nearest.pair", word=a, nearest=b) for a, b in pairs)
            note += " " + self._texts("run.nearest", word=self._texts("list.join").join(said))
        return note


def failure(message: str, mode: str = "video") -> StageState:
    """The state that shows an error's sentence."""
    return StageState(state="failed", text=message, mode=mode)


def say_loading(texts: Texts, loading: Loading) -> str:
    """How far the model is, in words."""
    if loading.bytes_total:
        done, total = f"{loading.bytes_done / 1e9:.2f}", f"{loading.bytes_total / 1e9:.2f}"
        return texts("loading.fetch", done=done, total=total, percent=_percent(loading))
    named = f"loading.{loading.stage}"
    message = texts(named) if named in texts else loading.message
    if loading.fraction is None:
        return texts("model.loading", message=message)
    return texts("model.loading_fraction", message=message, percent=_percent(loading))


def _percent(loading: Loading) -> int:
    return int(100 * (loading.fraction or 0.0))
