"""Out of memory is not the end: free everything, take the next memory plan, make it again.

The seed is the request's own, so that the clip is the one that was asked for. What was stepped
down to stays, because the next request would run out too; where even the last plan is not enough,
the engine is put back as it was and the request fails with a sentence.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from latte_core.engine.compiling import release_blocks
from latte_core.engine.events import Generation, SteppedDown
from latte_core.engine.labels import Unconditional, make_conditioner
from latte_core.engine.memory import (
    Resident,
    cpu_bf16_pays,
    free_memory,
    make_policy,
    recover,
    to_main_memory,
)
from latte_core.engine.parts import Parts, read_text
from latte_core.engine.pipeline import Check, Emit, Pipeline
from latte_core.engine.plans import GIB, Plan, needed, next_plan
from latte_core.engine.request import GenerationRequest
from latte_core.engine.shortage import ran_out_of_memory
from latte_core.errors import MemoryPlanError

logger = logging.getLogger(__name__)


class Ladder:
    """A pipeline, and its way down the memory plans. Used by the worker's thread only."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def run(self, request: GenerationRequest, emit: Emit, check: Check) -> Generation:
        """Make a resolved request, with as many plans as it takes.

        Raises MemoryPlanError if memory runs out with the last of them too.
        """
        first = self.pipeline.parts.plan
        while (made := self._attempt(request, emit, check)) is None:
            # Outside of the handler: the error that kept the run's tensors alive is gone.
            recover()
            check(0, 0)
            self._step_down(first, emit)
        return made

    def _attempt(self, request: GenerationRequest, emit: Emit, check: Check) -> Generation | None:
        """The result; None if memory ran out."""
        try:
            return self.pipeline.run(request, emit, check)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            plan = self.pipeline.parts.plan
            # As text: a record that holds the error would hold its frames' tensors too.
            logger.warning("Memory ran out on %s with %s: %s", plan.device, plan.name, str(error))
            return None

    def _step_down(self, first: Plan, emit: Emit) -> None:
        """Take the next plan that can be carried out here; back to `first` if there is none."""
        parts = self.pipeline.parts
        failed = parts.plan
        while parts.sizes is not None:
            lower = next_plan(failed, parts.sizes, free_memory(), cpu_bf16_pays())
            if lower is None:
                break
            if not self._placed(lower):
                failed = lower
                recover()
                continue
            emit(SteppedDown(lower.name, lower.sentence))
            return
        last = failed
        free = free_memory()[last.device] / GIB
        self._placed(first)
        raise MemoryPlanError(
            f"Memory ran out on {last.device} with every memory plan down to {last.name}, which "
            f"needs {needed(last)} for the model's default size ({free:.1f} GiB are free now). "
            "Choose a smaller size or fewer frames, or close other programs."
        )

    def settle(self, emit: Emit) -> None:
        """Put parts that were just read where their plan wants them, or a lower one.

        Raises MemoryPlanError if there is no memory for any of them.
        """
        first = self.pipeline.parts.plan
        if not self._placed(first):
            recover()
            self._step_down(first, emit)

    def _placed(self, plan: Plan) -> bool:
        """Place the parts so, and say whether that could be done."""
        try:
            self.place(plan)
        except Exception as error:  # no bitsandbytes for packed weights, or no room
            if not isinstance(error, MemoryPlanError) and not ran_out_of_memory(error):
                raise
            logger.warning("%s is left out: %s", plan.name, str(error))
            return False
        return True

    def place(self, plan: Plan) -> None:
        """Put the parts where another memory plan wants them.

        The text encoder is read again if it is to be held in other numbers; the former one goes
        first. Raises MemoryPlanError if this machine cannot hold it so; then place another plan.
        """
        parts, conditioner = self.pipeline.parts, self.pipeline.conditioner
        self.pipeline.policy.release()
        to_main_memory(parts.modules())
        if parts.conditioning == "text" and not _holds_text_alike(parts, plan):
            folder = parts.folder
            assert folder is not None  # a loaded model
            parts = replace(parts, text=None)
            conditioner = Unconditional()
            self.pipeline = Pipeline(parts, Resident({}, {}), conditioner)
            recover()
            parts = replace(parts, text=read_text(folder, plan))
            conditioner = make_conditioner(parts)
        if plan.streamed:
            release_blocks(parts)
        compiled = parts.plan.compiled and not plan.streamed
        parts = replace(parts, plan=replace(plan, compiled=compiled))
        self.pipeline = Pipeline(parts, make_policy(plan, parts.modules()), conditioner)


def _holds_text_alike(parts: Parts, plan: Plan) -> bool:
    """Whether the text encoder that is there suits a plan; packed weights cannot be moved."""
    held = parts.plan
    return (
        parts.text is not None
        and (held.text_bits, held.text_dtype) == (plan.text_bits, plan.text_dtype)
        and (plan.text_bits is None or held.text_device == plan.text_device)
    )
