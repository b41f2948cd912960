"""One thread that does all work on the model, and the jobs that wait for it.

Callers only read a job's events. Whatever a job raises, SystemExit and MemoryError included,
becomes that job's error, and the thread goes on with the next. Needs no torch.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Generic, Literal, TypeVar

from latte_core.engine.shortage import ran_out_of_memory
from latte_core.errors import Cancelled, EngineBusyError, LatteError, MemoryPlanError

State = Literal["queued", "running", "finished", "cancelled", "failed"]
EventT = TypeVar("EventT")

logger = logging.getLogger(__name__)


class Job(Generic[EventT]):
    """One piece of work: its state, its events, and the means to stop it."""

    def __init__(self, work: Callable[[Job[EventT]], None]) -> None:
        self._work = work
        self._events: queue.SimpleQueue[EventT | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._state: State = "queued"
        self._error: LatteError | None = None
        self._ahead: Callable[[Job[EventT]], int] = lambda job: 0

    @property
    def state(self) -> State:
        """Where the job stands."""
        return self._state

    @property
    def error(self) -> LatteError | None:
        """Why the job failed or was cancelled; None otherwise."""
        return self._error

    @property
    def position(self) -> int:
        """Jobs that come before this one; 0 when it runs or is over."""
        return self._ahead(self) if self._state == "queued" else 0

    def cancel(self) -> None:
        """Ask the job to stop. It does so before its next step; a finished job is unmoved."""
        self._stop.set()

    def emit(self, event: EventT) -> None:
        """Add an event; called by the job's own work."""
        self._events.put(event)

    def check(self, done: int = 0, total: int = 0) -> None:
        """Raise Cancelled if the job was asked to stop; called by the job's own work."""
        if self._stop.is_set():
            raise Cancelled(done, total)

    def events(self) -> Iterator[EventT]:
        """The job's events as they come, for one reader.

        Ends when the job finished. Raises the job's error if it failed, Cancelled if it was
        stopped.
        """
        while (event := self._events.get()) is not None:
            yield event
        self._events.put(None)  # a second reader ends at once instead of waiting for ever
        if self._error is not None:
            raise self._error

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the job is over; False if that took longer than `timeout_s`."""
        return self._ended.wait(timeout_s)

    def run(self) -> None:
        """Do the work and settle how it ended. Called by the worker; raises nothing."""
        self._state = "running"
        error: BaseException | None = None
        try:
            self.check()
            self._work(self)
        except BaseException as raised:  # noqa: BLE001 - SystemExit too must not end the thread
            error = raised
        # Outside of the handler: a traceback that lives keeps the frames' tensors alive.
        self.settle(None if error is None else _as_latte_error(error))

    def settle(self, error: LatteError | None) -> None:
        """Close the job with an error, or without one."""
        self._error = error
        if error is None:
            self._state = "finished"
        else:
            self._state = "cancelled" if isinstance(error, Cancelled) else "failed"
        self._work = lambda job: None  # lets go of what the work holds
        self._events.put(None)
        self._ended.set()


class Worker:
    """A thread that runs jobs one after the other, at most `capacity` waiting.

    `recover` is called after a job that failed or was stopped. In a forked process the first job
    starts a thread of that process.
    """

    def __init__(self, capacity: int, recover: Callable[[], None] = lambda: None) -> None:
        self._capacity = capacity
        self._recover = recover
        self._closed = False
        self._begin()

    @property
    def alive(self) -> bool:
        """Whether the thread still takes jobs."""
        return self._thread.is_alive() and not self._closed

    def submit(self, work: Callable[[Job[EventT]], None]) -> Job[EventT]:
        """Queue a piece of work. Raises EngineBusyError if the queue is full or closed."""
        if self._process != os.getpid():
            self._begin()
        job: Job[EventT] = Job(work)
        with self._changed:
            if self._closed:
                raise EngineBusyError("The engine is shut down: load it again.")
            if len(self._waiting) >= self._capacity:
                raise EngineBusyError(
                    f"{len(self._waiting)} jobs are waiting, the limit is {self._capacity}: try "
                    "again in a moment."
                )
            job._ahead = self._ahead
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def close(self, timeout_s: float = 60.0) -> None:
        """Stop the running job at its next step, cancel all others, end the thread."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                job.cancel()
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _begin(self) -> None:
        """An empty line and a thread of this process: a fork brings neither thread nor jobs."""
        self._process = os.getpid()
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._serve, name=f"latte-model-{next(_numbers)}", daemon=True
        )
        self._thread.start()

    def _ahead(self, job: Job) -> int:
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            self._clean_up(job)
            del job
            with self._changed:
                self._running = None

    def _clean_up(self, job: Job) -> None:
        if job.error is None:
            return
        try:
            self._recover()
        except Exception:
            logger.exception("Cleaning up after a job failed")

    def _next(self) -> Job | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return None
            self._running = self._waiting.pop(0)
            return self._running


_numbers = itertools.count(1)


def _as_latte_error(error: BaseException) -> LatteError:
    """Any error as one of ours, without the traceback that would keep tensors alive."""
    if isinstance(error, LatteError):
        settled = error
    else:
        # As text: a record that holds the error would hold its frames' tensors too.
        logger.error("A job failed:\n%s", "".join(traceback.format_exception(error)))
        name, text = type(error).__name__, str(error).strip().split("\n")[0][:200]
        if ran_out_of_memory(error):
            settled = MemoryPlanError(
                "Memory ran out while generating. Choose a smaller size, fewer frames or a "
                "memory plan that needs less."
            )
        else:
            settled = LatteError(f"The job failed inside the engine ({name}: {text}).")
    settled.__cause__ = settled.__context__ = None
    return settled.with_traceback(None)
