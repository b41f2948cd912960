"""The engine: load a model once, then turn requests into videos, one at a time.

engine = Engine.load("assets/latte-world")
for event in engine.stream(GenerationRequest(prompt="a red rocket flies up over the sea")):
    ...                                 # Step, Encoded, Step, ..., Decoding, ..., Finished
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from latte_core.diffusion.schedulers import SCHEDULERS
from latte_core.engine.compiling import compile_blocks
from latte_core.engine.events import EngineInfo, Event, Finished, Generation, Loading, SteppedDown
from latte_core.engine.inspection import Inspection, look
from latte_core.engine.labels import make_conditioner
from latte_core.engine.ladder import Ladder
from latte_core.engine.memory import Resident, recover
from latte_core.engine.outlook import MemoryOutlook
from latte_core.engine.parts import STEPPED_DOWN, Parts, load_parts
from latte_core.engine.pipeline import Pipeline
from latte_core.engine.request import GenerationRequest
from latte_core.engine.windows import possible_tempos, with_tempo
from latte_core.engine.worker import Job, Worker
from latte_core.errors import LatteError

QUEUE_CAPACITY = 64


class Engine:
    """A model in memory and the one thread that works with it. Make it with `Engine.load`."""

    def __init__(self, worker: Worker, model: Pipeline | Ladder) -> None:
        self._worker = worker
        self._ladder = model if isinstance(model, Ladder) else Ladder(model)

    @property
    def _pipeline(self) -> Pipeline:
        """The model as it is placed now; a job that runs out of memory places it anew."""
        return self._ladder.pipeline

    @classmethod
    def load(
        cls,
        model: str | Path,
        memory: str = "auto",
        device: str = "auto",
        on_progress: Callable[[Loading], None] | None = None,
        lora: str | Path | None = None,
        in_caller: bool = False,
        precision: str = "auto",
    ) -> Engine:
        """Read a folder, or a hub id, in the Latte-1 layout, or that of a converted class model.

        `memory` is auto, resident, offload, offload-8bit, offload-4bit or text-on-cpu; `device`
        is auto, cuda, mps or cpu. `lora` is a LoRA file in diffusers' format, or its
        folder, which is merged into the transformer. `in_caller` reads the model in the calling
        thread, for hosts that stand in for the device in one thread only (ZeroGPU); progress is
        then told at the end. `precision` is auto, fp32, bf16, fp16, fp16-accumulate or fp8; auto
        is fp16 on a GPU, bf16 on a CPU that multiplies it itself, else fp32.
        `describe().plan` says what was chosen and why. Raises CheckpointError for a missing or
        damaged model, MemoryPlanError if it does not fit, ConfigError for a precision that cannot
        be had here.
        """
        worker = Worker(QUEUE_CAPACITY, recover=recover)
        made: list[Ladder] = []

        def work(job: Job[Loading]) -> None:
            parts = load_parts(str(model), memory, device, job.emit, lora, precision)
            ladder = Ladder(Pipeline(parts, Resident({}, {}), make_conditioner(parts)))
            ladder.settle(lambda event: job.emit(_stepped_down(event)))
            made.append(ladder)
            job.emit(Loading("ready", f"{parts.name} is ready", 1.0))

        try:
            for event in (_done_here(work) if in_caller else worker.submit(work)).events():
                if on_progress is not None:
                    on_progress(event)
        except BaseException:
            worker.close()
            raise
        return cls(worker, made.pop())

    def compile(self, on_progress: Callable[[Loading], None] | None = None) -> Engine:
        """Compile the blocks once, in the model's thread, and wait for it; returns the engine.

        Later nothing is compiled: other shapes than the default run as before. A machine that
        cannot compile stays as it is; `describe().plan` says what came of it.
        """

        def work(job: Job[Loading]) -> None:
            self._ladder.pipeline = compile_blocks(self._pipeline, job.emit)

        for event in self._worker.submit(work).events():
            if on_progress is not None:
                on_progress(event)
        return self

    def submit(self, request: GenerationRequest | Inspection) -> Job[Event]:
        """Queue a request, or an inspection, whose last event is `Inspected`.

        Raises RequestError if this model cannot make it, EngineBusyError if the queue is full.
        """
        if isinstance(request, Inspection):
            return self._inspect(request)
        resolved = self._resolve(request)

        def work(job: Job[Event]) -> None:
            job.emit(Finished(self._ladder.run(resolved, job.emit, job.check)))

        return self._worker.submit(work)

    def stream(self, request: GenerationRequest) -> Iterator[Event]:
        """The events of a request as they happen, Finished being the last.

        The request is checked at once and queued when the first event is asked for. Closing the
        iterator cancels the job; a job that was cancelled otherwise raises Cancelled here.
        """
        return self._events(self._resolve(request))

    def generate(
        self, request: GenerationRequest, cancel: threading.Event | None = None
    ) -> Generation:
        """Make what is asked for and wait for it. Setting `cancel` raises Cancelled."""
        job = self.submit(request)
        try:
            for event in job.events():
                if cancel is not None and cancel.is_set():
                    job.cancel()
                if isinstance(event, Finished):
                    return event.generation
        finally:
            job.cancel()
        raise LatteError("The job ended without a result.")

    def describe(self) -> EngineInfo:
        """What this engine is made of."""
        outlook = MemoryOutlook(self._ladder, self._worker)
        return replace(describe(self._pipeline.parts), memory=outlook)

    @property
    def alive(self) -> bool:
        """Whether the engine takes requests."""
        return self._worker.alive

    def close(self) -> None:
        """Stop what runs, refuse what comes, free the model. Closing twice does nothing."""
        self._worker.close()
        self._pipeline.policy.release()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _inspect(self, inspection: Inspection) -> Job[Event]:
        resolved = replace(inspection, request=self._resolve(inspection.request))

        def work(job: Job[Event]) -> None:
            job.emit(look(self._pipeline, resolved, job.emit, job.check))

        return self._worker.submit(work)

    def _resolve(self, request: GenerationRequest) -> GenerationRequest:
        parts = self._pipeline.parts
        resolved = request.resolve(parts.defaults_for(request), parts.clip_lengths)
        parts.check(resolved)
        return with_tempo(resolved, parts.transformer.config, parts.card)

    def _events(self, resolved: GenerationRequest) -> Iterator[Event]:
        job = self.submit(resolved)
        try:
            yield from job.events()
        finally:
            job.cancel()


def _done_here(work: Callable[[Job[Loading]], None]) -> Job[Loading]:
    job = Job(work)
    job.run()
    return job


def _stepped_down(event: Event) -> Loading:
    """What is told of a step down while the model is placed."""
    assert isinstance(event, SteppedDown)  # nothing else happens there
    return Loading(STEPPED_DOWN, event.sentence, 0.95)


def describe(parts: Parts) -> EngineInfo:
    """What an engine with these parts is made of."""
    return EngineInfo(
        model=parts.name,
        model_hash=parts.hash,
        device=parts.plan.device,
        plan=parts.plan.sentence,
        defaults=parts.defaults,
        schedulers=tuple(SCHEDULERS),
        modes=parts.modes,
        clip_lengths=parts.clip_lengths,
        trained_frames=parts.transformer.config.num_frames,
        tempos=possible_tempos(parts.transformer.config, parts.card),
        card=dict(parts.card),
        conditioning=parts.conditioning,
        classes=parts.classes,
        step_plans=parts.plans,
        turbo=parts.turbo is not None,
        size_multiple=parts.size_multiple,
    )
