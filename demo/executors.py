"""Where a job runs.

`LocalExecutor` loads the engine in a thread behind the page and hands it jobs; the engine's own
model thread runs them one by one. Page code sees only `Executor` and `Run`, so that a host where
the device is lent per call (ZeroGPU, see zero.py) needs another executor and nothing else.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from demo.models import Guests
from demo.settings import Settings
from demo.strings import Texts
from latte_core import (
    Cancelled,
    EngineBusyError,
    GenerationRequest,
    Inspection,
    LatteError,
    Loading,
    Step,
)

if TYPE_CHECKING:
    from latte_core import EngineInfo

log = logging.getLogger(__name__)


Wanted: TypeAlias = "GenerationRequest | Inspection"


class JobLike(Protocol):
    """What is needed of an engine's job."""

    def events(self) -> Iterator[Any]:
        """The events of the job, until it is over; raises what ended it early."""
        ...

    def cancel(self) -> None:
        """Ask the job to stop."""
        ...


class EngineLike(Protocol):
    """What is needed of an engine."""

    def submit(self, request: Wanted) -> JobLike:
        """Put a job in line."""
        ...

    def describe(self) -> EngineInfo:
        """What is loaded, and where."""
        ...


LoadEngine = Callable[[Callable[[Loading], None]], EngineLike]


@dataclass(frozen=True)
class Readiness:
    """How far the model is. `failure` is a sentence when it will never be ready."""

    loading: Loading
    info: EngineInfo | None = None
    failure: str = ""


class Run:
    """One job of one visitor: `poll` its events, `cancel` it. Any thread may do either."""

    def __init__(
        self, number: int, request: Wanted, owner: str, texts: Texts, source: str = ""
    ) -> None:
        self.number = number
        self.source = source
        self.wanted = request
        self.request = request.request if isinstance(request, Inspection) else request
        self.owner = owner
        self.texts = texts
        self.eta_s: float | None = None
        self.replaced = False
        self.job: JobLike | None = None
        self.cancelled = threading.Event()
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def poll(self, timeout_s: float) -> Any | None:
        """The next event, or None when none came in time. Raises what ended the job early."""
        try:
            item = self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item

    def put(self, item: Any) -> None:
        """Add an event, or the exception that ended the job."""
        self._items.put(item)

    def cancel(self) -> None:
        """Ask the job to stop; the model is free again within one step."""
        self.cancelled.set()
        if self.job is not None:
            self.job.cancel()


class Executor(Protocol):
    """Runs jobs for visitors."""

    def start(self) -> None:
        """Begin to load the model."""
        ...

    def readiness(self) -> Readiness:
        """How far the model is."""
        ...

    @property
    def sources(self) -> tuple[str, ...]:
        """Further models that a job may ask for."""
        ...

    def submit(
        self, request: Wanted, owner: str = "", texts: Texts | None = None, source: str = ""
    ) -> Run:
        """Put a job in line. A page has one job at a time: its earlier one is cancelled.

        What goes wrong is said in the words of `texts`. `source` is one of `sources`, or the
        page's own model.
        """
        ...

    def cancel(self, owner: str) -> None:
        """Cancel the jobs of one page."""
        ...

    def place(self, run: Run) -> int:
        """How many jobs are before this one."""
        ...

    def eta_s(self, run: Run) -> float | None:
        """Seconds that the job which runs before this one still needs, if it is known."""
        ...

    def waiting(self) -> int:
        """How many jobs are wanted now, the one that runs included."""
        ...


class LocalExecutor:
    """Loads the engine in a daemon thread of this process and runs the jobs there."""

    def __init__(
        self, load: LoadEngine, max_waiting: int, texts: Texts, guests: Guests | None = None
    ) -> None:
        self._load = load
        self._max_waiting = max_waiting
        self._texts = texts
        self._guests = guests
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._engine: EngineLike | None = None
        self._readiness = Readiness(Loading("start", texts("model.starting"), None))
        self._runs: list[Run] = []
        self._numbers = itertools.count(1)

    def before_launch(self) -> None:
        """Nothing: the page comes before the weights."""

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        threading.Thread(target=self.load_now, name="model-loader", daemon=True).start()

    def readiness(self) -> Readiness:
        """How far the model is."""
        return self._readiness

    @property
    def sources(self) -> tuple[str, ...]:
        """Further models that a job may ask for."""
        return self._guests.sources if self._guests else ()

    def submit(
        self, request: Wanted, owner: str = "", texts: Texts | None = None, source: str = ""
    ) -> Run:
        """Put a job in line. Raises EngineBusyError when the line is full."""
        texts = texts or self._texts
        with self._lock:
            wanted = [run for run in self._runs if not run.cancelled.is_set()]
            own = [run for run in wanted if owner and run.owner == owner]
            if len(wanted) - len(own) > self._max_waiting:
                raise EngineBusyError(texts("error.busy", waiting=self._max_waiting))
            run = Run(next(self._numbers), request, owner, texts, source)
            self._runs.append(run)
        for earlier in own:
            earlier.replaced = True
            earlier.cancel()
        # In the visitor's context: where a device is lent, it is lent to whoever asks.
        carried = copy_context()
        threading.Thread(
            target=carried.run, args=(self._pump, run), name=f"run-{run.number}", daemon=True
        ).start()
        return run

    def cancel(self, owner: str) -> None:
        """Cancel the jobs of one page."""
        with self._lock:
            own = [run for run in self._runs if run.owner == owner]
        for run in own:
            run.cancel()

    def place(self, run: Run) -> int:
        """How many jobs are before this one; 0 when it is its turn or it is over."""
        with self._lock:
            earlier = self._runs[: self._runs.index(run)] if run in self._runs else []
        return sum(not one.cancelled.is_set() for one in earlier)

    def eta_s(self, run: Run) -> float | None:
        """Seconds that the job which runs before this one still needs, if it is known."""
        with self._lock:
            first = self._runs[0] if self._runs else run
        return None if first is run else first.eta_s

    def waiting(self) -> int:
        """How many jobs are wanted now, the one that runs included."""
        with self._lock:
            return sum(not run.cancelled.is_set() for run in self._runs)

    def load_now(self) -> None:
        """Load the model in the calling thread; what fails is said by `readiness`."""
        try:
            engine = self._load(self._note_progress)
            self._readiness = Readiness(self._readiness.loading, engine.describe())
            self._engine = engine
        except LatteError as error:
            log.error(self._texts("model.failed", message=str(error)))
            self._readiness = Readiness(self._readiness.loading, failure=str(error))
        except BaseException:
            log.exception("Loading the model failed.")
            reason = self._texts("error.internal", code="model")
            self._readiness = Readiness(self._readiness.loading, failure=reason)
        finally:
            self._settled.set()

    def _note_progress(self, loading: Loading) -> None:
        self._readiness = Readiness(loading)

    def _pump(self, run: Run) -> None:
        """Move a job's events to its reader, whatever happens."""
        try:
            job = self._enter(run)
            for event in job.events():
                if isinstance(event, Step):
                    run.eta_s = event.eta_s
                run.put(event)
        except LatteError as error:
            run.put(error)
        except BaseException:
            log.exception("Run %d failed.", run.number)
            run.put(LatteError(run.texts("error.internal", code=f"run-{run.number}")))
        finally:
            with self._lock:
                self._runs.remove(run)

    def _enter(self, run: Run) -> JobLike:
        while not self._may_enter(run):
            if run.cancelled.wait(0.1):
                raise Cancelled
        if self._engine is None:
            raise LatteError(run.texts("error.model", message=self._readiness.failure))
        engine = self._guests.engine(run.source) if self._guests and run.source else self._engine
        run.job = engine.submit(run.wanted)
        if run.cancelled.is_set():  # cancelled while it was handed over
            run.job.cancel()
        return run.job

    def _may_enter(self, run: Run) -> bool:
        """Whether the engine is there and all who came earlier were handed to it.

        Jobs of other models must be over: each engine has a line of its own, and one job runs.
        """
        if not self._settled.is_set():
            return False
        with self._lock:
            earlier = self._runs[: self._runs.index(run)]
        if any(one.source != run.source for one in earlier):
            return False
        return self._engine is None or all(one.job or one.cancelled.is_set() for one in earlier)


def engine_loader(settings: Settings) -> LoadEngine:
    """A function that imports torch and loads the engine which the settings ask for."""

    def load(on_progress: Callable[[Loading], None]) -> EngineLike:
        from latte_core import Engine

        engine = Engine.load(
            settings.model,
            settings.memory,
            settings.device,
            on_progress=on_progress,
            in_caller=settings.zero_gpu,
            precision=settings.precision,
        )
        return engine.compile(on_progress) if settings.compile else engine

    return load
