"""Jobs on ZeroGPU: a host that lends a GPU for the length of one call, in a process of its own.

The package `spaces` stands in for CUDA in the thread that imports it, so the model is read there,
before the page is up. A call of what `spaces.GPU` has wrapped forks: the child has the real GPU
and this process's memory, values come back pickled, and closing the generator stops it.
Source: `spaces` 0.51.3, zero/wrappers.py and zero/torch/patching.py.
"""

from __future__ import annotations

import html
import importlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.executors import EngineLike, LoadEngine, LocalExecutor, Run, Wanted
from demo.strings import Texts
from latte_core import Cancelled, GenerationRequest, Inspection, LatteError, Loading, Step

if TYPE_CHECKING:
    from latte_core import EngineInfo

# Latte-1's step, 16 frames of 512 x 512 with guidance, is about 1e14 operations of multiplying
# matrices: a second on half of an RTX Pro 6000 at a third of its peak. Reckoned, not measured.
STEP_S = 1.0
STEP_PIXELS = 16 * 512 * 512
OVERHEAD_S = 15  # fork, moving the weights, text and pictures
LONGEST_S = 120  # an anonymous visitor's share of a day; the host refuses him more
MARGIN = 1.5  # a call that outlasts its time is cut off

Lend = Callable[[Wanted], Iterator[Any]]


@dataclass(frozen=True)
class Ended:
    """How a job ended in the other process; an error itself would arrive without its words."""

    text: str
    cancelled: bool = False

    def error(self, step: int, total: int) -> LatteError:
        """The error to raise on this side, after so many steps."""
        return Cancelled(step, total) if self.cancelled else LatteError(self.text)


class LentJob:
    """A job in a call to the lent device. It stops before its next event."""

    def __init__(self, lend: Lend, wanted: Wanted) -> None:
        self._lend = lend
        self._wanted = wanted
        self._stop = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop."""
        self._stop.set()

    def events(self) -> Iterator[Any]:
        """The job's events as they come; raises what ended it early."""
        step = total = 0
        if self._stop.is_set():
            raise Cancelled
        call = self._lend(self._wanted)
        try:
            for event in call:
                if isinstance(event, Ended):
                    raise event.error(step, total)
                if isinstance(event, Step):
                    step, total = event.index, event.total
                yield event
                if self._stop.is_set():
                    raise Cancelled(step, total)
        except gr.Error as refusal:  # the host's: no quota left, no device free
            raise LatteError(plain_text(str(refusal.message))) from refusal
        finally:
            call.close()  # type: ignore[attr-defined]  # a generator


class LentEngine:
    """An engine whose jobs run in calls of what `gpu`, which is `spaces.GPU`, makes of them."""

    def __init__(self, engine: EngineLike, gpu: Callable[..., Any]) -> None:
        self._engine = engine
        self._lend: Lend = gpu(duration=self.duration_s)(self._run)

    def describe(self) -> EngineInfo:
        """What is loaded, and where; its memory is a lent device's, which is not here."""
        info = self._engine.describe()
        return replace(info, memory=None) if is_dataclass(info) else info

    def submit(self, request: Wanted) -> LentJob:
        """A job that asks for the device when its events are read.

        Raises RequestError for what this model cannot make, before the device is asked for.
        """
        self.duration_s(request)
        return LentJob(self._lend, request)

    def duration_s(self, wanted: Wanted) -> int:
        """For how many seconds to ask the device; short calls come first in the host's line."""
        info = self._engine.describe()
        request = wanted.request if isinstance(wanted, Inspection) else wanted
        request = request.resolve(info.defaults, info.clip_lengths)
        return needed_s(request)

    def _run(self, wanted: Wanted) -> Iterator[Any]:
        """The events of a job, in the process that has the device."""
        try:
            job = self._engine.submit(wanted)
        except LatteError as error:
            yield Ended(str(error))
            return
        try:
            yield from job.events()
        except LatteError as error:
            yield Ended(str(error), isinstance(error, Cancelled))
        finally:
            job.cancel()


class ZeroExecutor(LocalExecutor):
    """Runs jobs on lent devices: as many at once as the host lends, the host keeps the line."""

    def __init__(self, load: LoadEngine, max_waiting: int, texts: Texts) -> None:
        super().__init__(_lent(load), max_waiting, texts)

    def before_launch(self) -> None:
        """Read the model here and now: the device is stood in for in this thread alone."""
        self.load_now()

    def start(self) -> None:
        """Nothing is left to do."""

    def place(self, run: Run) -> int:
        """No job waits for another of this server."""
        return 0

    def eta_s(self, run: Run) -> float | None:
        """See `place`."""
        return None

    def _may_enter(self, run: Run) -> bool:
        return True


def needed_s(request: GenerationRequest) -> int:
    """Seconds on the host's device for a resolved request, with a margin."""
    frames = (request.num_frames or 1) + request.num_images
    pixels = frames * (request.height or 1) * (request.width or 1)
    steps_s = (request.num_inference_steps or 1) * STEP_S * pixels / STEP_PIXELS
    return min(LONGEST_S, round(OVERHEAD_S + MARGIN * steps_s))


def plain_text(message: str) -> str:
    """A message of the host's, which is markup, as text."""
    return html.unescape(re.sub(r"<[^>]*>", "", message)).strip()


def _lent(load: LoadEngine) -> LoadEngine:
    def load_lent(on_progress: Callable[[Loading], None]) -> LentEngine:
        try:
            spaces = importlib.import_module("spaces")
        except ImportError:
            raise LatteError(
                "SPACES_ZERO_GPU is set, but the package spaces is not there: pip install spaces, "
                "or unset it."
            ) from None
        return LentEngine(load(on_progress), spaces.GPU)

    return load_lent
